rule classifier:
    input:
        upstream,
    output:
        record("classifier"),
    log:
        log_of("classifier"),
    benchmark:
        benchmark_of("classifier")
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        spec=spec,
    shell:
        command("classifier")
