rule map_fit:
    input:
        upstream,
    output:
        record("map_fit"),
    log:
        log_of("map_fit"),
    benchmark:
        benchmark_of("map_fit")
    priority: SOON
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        **needs("large"),
    params:
        spec=spec,
    shell:
        command("map_fit")


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
        **needs("large"),
    params:
        spec=spec,
    shell:
        command("maps")


rule mean_mask:
    input:
        upstream,
    output:
        record("mean_mask"),
    log:
        log_of("mean_mask"),
    benchmark:
        benchmark_of("mean_mask")
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        **needs("small"),
    params:
        spec=spec,
    shell:
        command("mean_mask")
