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
        mem_mb=2000,
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
        mem_mb=2000,
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
    threads: 1
    resources:
        mem_mb=2000,
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
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        spec=spec,
    shell:
        command("models")


rule publish:
    input:
        publishing("all"),
    output:
        published("all"),
    log:
        f"{runs.RESULTS}/logs/publish/{PLANS['all'].config.name}.log",
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    params:
        command=publish_command("all"),
    shell:
        "{params.command} > {log} 2>&1"
