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


rule volume_classifier:
    input:
        upstream,
    output:
        record("volume_classifier"),
    log:
        log_of("volume_classifier"),
    benchmark:
        benchmark_of("volume_classifier")
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        spec=spec,
    shell:
        command("volume_classifier")
