rule references:
    input:
        upstream,
    output:
        record("references"),
    log:
        log_of("references"),
    benchmark:
        benchmark_of("references")
    priority: SOON
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        **needs("large"),
    params:
        spec=spec,
    shell:
        command("references")
