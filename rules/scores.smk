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
    threads: CASES_AT_ONCE
    resources:
        **needs("medium"),
    params:
        spec=spec,
    shell:
        command("scores")


rule faithfulness:
    input:
        upstream,
    output:
        record("faithfulness"),
    log:
        log_of("faithfulness"),
    benchmark:
        benchmark_of("faithfulness")
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        **needs("large"),
    params:
        spec=spec,
    shell:
        command("faithfulness")


rule repeatability:
    input:
        upstream,
    output:
        record("repeatability"),
    log:
        log_of("repeatability"),
    benchmark:
        benchmark_of("repeatability")
    conda:
        "../envs/weakseg.yaml"
    threads: CASES_AT_ONCE
    resources:
        **needs("medium"),
    params:
        spec=spec,
    shell:
        command("repeatability")


rule counterfactuals:
    input:
        upstream,
    output:
        record("counterfactuals"),
    log:
        log_of("counterfactuals"),
    benchmark:
        benchmark_of("counterfactuals")
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        **needs("large"),
    params:
        spec=spec,
    shell:
        command("counterfactuals")


rule collect:
    input:
        upstream,
    output:
        record("collect"),
    log:
        log_of("collect"),
    benchmark:
        benchmark_of("collect")
    localrule: True
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        **needs("small"),
    params:
        spec=spec,
    shell:
        command("collect")
