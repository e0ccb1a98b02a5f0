rule refinement:
    input:
        upstream,
    output:
        record("refinement"),
    log:
        log_of("refinement"),
    benchmark:
        benchmark_of("refinement")
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        spec=spec,
    shell:
        command("refinement")
