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
        **needs("large"),
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
        **needs("medium"),
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
    priority: SOON
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        **needs("large"),
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
        **needs("small"),
    params:
        spec=spec,
    shell:
        command("sneak_tables")


rule coin_tables:
    input:
        upstream,
    output:
        record("coin_tables"),
    log:
        log_of("coin_tables"),
    benchmark:
        benchmark_of("coin_tables")
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        **needs("medium"),
    params:
        spec=spec,
    shell:
        command("coin_tables")


rule hemorrhage_share:
    input:
        upstream,
    output:
        record("hemorrhage_share"),
    log:
        log_of("hemorrhage_share"),
    benchmark:
        benchmark_of("hemorrhage_share")
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        **needs("small"),
    params:
        spec=spec,
    shell:
        command("hemorrhage_share")


rule hemorrhage_costs:
    input:
        upstream,
    output:
        record("hemorrhage_costs"),
    log:
        log_of("hemorrhage_costs"),
    benchmark:
        benchmark_of("hemorrhage_costs")
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        **needs("medium"),
    params:
        spec=spec,
    shell:
        command("hemorrhage_costs")


rule hemorrhage_tables:
    input:
        upstream,
    output:
        record("hemorrhage_tables"),
    log:
        log_of("hemorrhage_tables"),
    benchmark:
        benchmark_of("hemorrhage_tables")
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        **needs("small"),
    params:
        spec=spec,
    shell:
        command("hemorrhage_tables")


rule refinements_tables:
    input:
        upstream,
    output:
        record("refinements_tables"),
    log:
        log_of("refinements_tables"),
    benchmark:
        benchmark_of("refinements_tables")
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        **needs("small"),
    params:
        spec=spec,
    shell:
        command("refinements_tables")


rule relevance_tables:
    input:
        upstream,
    output:
        record("relevance_tables"),
    log:
        log_of("relevance_tables"),
    benchmark:
        benchmark_of("relevance_tables")
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        **needs("small"),
    params:
        spec=spec,
    shell:
        command("relevance_tables")


rule cmft:
    input:
        upstream,
    output:
        record("cmft"),
    log:
        log_of("cmft"),
    benchmark:
        benchmark_of("cmft")
    priority: SOON
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        **needs("large"),
    params:
        spec=spec,
    shell:
        command("cmft")


rule cmff:
    input:
        upstream,
    output:
        record("cmff"),
    log:
        log_of("cmff"),
    benchmark:
        benchmark_of("cmff")
    priority: SOON
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        **needs("large"),
    params:
        spec=spec,
    shell:
        command("cmff")


rule cross_modality_tables:
    input:
        upstream,
    output:
        record("cross_modality_tables"),
    log:
        log_of("cross_modality_tables"),
    benchmark:
        benchmark_of("cross_modality_tables")
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        **needs("small"),
    params:
        spec=spec,
    shell:
        command("cross_modality_tables")


# A configuration that leaves a study out has no files of it, and so no such rule.
for study in (name for name in PLANS if name != "all" and published(name)):

    rule:
        name:
            f"publish_{study}"
        input:
            publishing(study),
        output:
            reported(study),
        log:
            f"{runs.RESULTS}/logs/publish/{PLANS[study].config.name}-{study}.log",
        localrule: True
        conda:
            "../envs/weakseg.yaml"
        threads: 1
        params:
            command=publish_command(study),
        shell:
            "{params.command} > {log} 2>&1"
