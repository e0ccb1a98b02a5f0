rule maps:
    input:
        upstream,
    output:
        record("maps"),
    log:
        log_of("maps"),
    benchmark:
        benchmark_of("maps")
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        spec=spec,
    shell:
        command("maps")
