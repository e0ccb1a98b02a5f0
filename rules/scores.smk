rule scores:
    input:
        upstream,
    output:
        record("scores"),
    log:
        log_of("scores"),
    benchmark:
        benchmark_of("scores")
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        spec=spec,
    shell:
        command("scores")


rule collect:
    input:
        upstream,
    output:
        record("collect"),
    log:
        log_of("collect"),
    benchmark:
        benchmark_of("collect")
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        spec=spec,
    shell:
        command("collect")
