rule leaderboard:
    input:
        upstream,
    output:
        record("leaderboard"),
    log:
        log_of("leaderboard"),
    benchmark:
        benchmark_of("leaderboard")
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        **needs("small"),
    params:
        spec=spec,
    shell:
        command("leaderboard")


rule faithfulness_table:
    input:
        upstream,
    output:
        record("faithfulness_table"),
    log:
        log_of("faithfulness_table"),
    benchmark:
        benchmark_of("faithfulness_table")
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        **needs("small"),
    params:
        spec=spec,
    shell:
        command("faithfulness_table")


rule figures:
    input:
        upstream,
    output:
        record("figures"),
    log:
        log_of("figures"),
    benchmark:
        benchmark_of("figures")
    conda:
        "../envs/weakseg.yaml"
    threads: CASES_AT_ONCE
    resources:
        **needs("small"),
    params:
        spec=spec,
    shell:
        command("figures")


rule models:
    input:
        upstream,
    output:
        record("models"),
    log:
        log_of("models"),
    benchmark:
        benchmark_of("models")
    localrule: True
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        **needs("small"),
    params:
        spec=spec,
    shell:
        command("models")


rule viewer:
    input:
        upstream,
    output:
        record("viewer"),
    log:
        log_of("viewer"),
    benchmark:
        benchmark_of("viewer")
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        **needs("small"),
    params:
        spec=spec,
    shell:
        command("viewer")


rule publish:
    input:
        publishing("all"),
    output:
        reported("all"),
    log:
        f"{runs.RESULTS}/logs/publish/{PLANS['all'].config.name}.log",
    localrule: True
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    params:
        command=publish_command("all"),
    shell:
        "{params.command} > {log} 2>&1"


# Tables of what there is, when something failed or was stopped: `snakemake partial`.
rule partial_tables:
    input:
        upstream,
    output:
        record("partial_tables"),
    log:
        log_of("partial_tables"),
    benchmark:
        benchmark_of("partial_tables")
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        **needs("small"),
    params:
        spec=spec,
    shell:
        command("partial_tables")


rule partial:
    input:
        partial_records,
    log:
        f"{runs.RESULTS}/logs/publish/{PLANS['all'].config.name}-partial.log",
    localrule: True
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    params:
        command=publish_partial,
    shell:
        "{params.command} > {log} 2>&1"


rule page:
    input:
        page_input,
    output:
        PAGE,
    log:
        f"{runs.RESULTS}/logs/page/{PLANS['all'].config.name}.log",
    localrule: True
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    params:
        spec=PAGE_SPEC,
    shell:
        "python -m weakseg page --spec {params.spec} > {log} 2>&1"


# From restored scores alone: so it names no input, which Snakemake would make by running everything.
rule tables:
    log:
        f"{runs.RESULTS}/logs/tables/{PLANS['all'].config.name}.log",
    conda:
        "../envs/weakseg.yaml"
    threads: CASES_AT_ONCE
    params:
        command=tables_command(),
    shell:
        "{params.command} --threads {threads} 2>&1 | tee {log}"
