rule references:
    input:
        upstream,
    output:
        record("references"),
    log:
        log_of("references"),
    benchmark:
        benchmark_of("references")
    conda:
        "../envs/weakseg.yaml"
    priority: SOON
    threads: 1
    resources:
        **needs("large"),
    params:
        spec=spec,
    shell:
        command("references")
