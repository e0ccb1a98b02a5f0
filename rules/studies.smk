rule sneak_maps:
    input:
        upstream,
    output:
        record("sneak_maps"),
    log:
        log_of("sneak_maps"),
    benchmark:
        benchmark_of("sneak_maps")
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        spec=spec,
    shell:
        command("sneak_maps")


rule sneak_masks:
    input:
        upstream,
    output:
        record("sneak_masks"),
    log:
        log_of("sneak_masks"),
    benchmark:
        benchmark_of("sneak_masks")
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        mem_mb=8000,
    params:
        spec=spec,
    shell:
        command("sneak_masks")


rule sneak_classifier:
    input:
        upstream,
    output:
        record("sneak_classifier"),
    log:
        log_of("sneak_classifier"),
    benchmark:
        benchmark_of("sneak_classifier")
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        mem_mb=8000,
    params:
        spec=spec,
    shell:
        command("sneak_classifier")


rule sneak_tables:
    input:
        upstream,
    output:
        record("sneak_tables"),
    log:
        log_of("sneak_tables"),
    benchmark:
        benchmark_of("sneak_tables")
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        spec=spec,
    shell:
        command("sneak_tables")


# A configuration that leaves the study out has no such files, and so no such rule.
if published("sneak_attack"):

    rule publish_sneak_attack:
        input:
            publishing("sneak_attack"),
        output:
            published("sneak_attack"),
        log:
            f"{runs.RESULTS}/logs/publish/{PLANS['sneak_attack'].config.name}-sneak_attack.log",
        conda:
            "../envs/weakseg.yaml"
        threads: 1
        params:
            command=publish_command("sneak_attack"),
        shell:
            "{params.command} > {log} 2>&1"
