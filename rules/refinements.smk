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
        **needs("large"),
    params:
        spec=spec,
    shell:
        command("refinement")
