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
    threads: 1
    resources:
        mem_mb=4000,
    params:
        spec=spec,
    shell:
        command("references")
