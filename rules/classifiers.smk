rule classifier:
    input:
        upstream,
    output:
        record("classifier"),
    log:
        log_of("classifier"),
    benchmark:
        benchmark_of("classifier")
    priority: SOON
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        **needs("large"),
    params:
        spec=spec,
    shell:
        command("classifier")


rule sequence_classifier:
    input:
        upstream,
    output:
        record("sequence_classifier"),
    log:
        log_of("sequence_classifier"),
    benchmark:
        benchmark_of("sequence_classifier")
    priority: SOON
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        **needs("large"),
    params:
        spec=spec,
    shell:
        command("sequence_classifier")


rule volume_classifier:
    input:
        upstream,
    output:
        record("volume_classifier"),
    log:
        log_of("volume_classifier"),
    benchmark:
        benchmark_of("volume_classifier")
    priority: SOON
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        **needs("large"),
    params:
        spec=spec,
    shell:
        command("volume_classifier")
