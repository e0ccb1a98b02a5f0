rule phantom:
    input:
        upstream,
    output:
        record("phantom"),
    log:
        log_of("phantom"),
    benchmark:
        benchmark_of("phantom")
    priority: FIRST
    conda:
        "../envs/weakseg.yaml"
    threads: CASES_AT_ONCE
    resources:
        **needs("medium"),
    params:
        spec=spec,
    shell:
        command("phantom")


rule index:
    input:
        upstream,
    output:
        record("index"),
    log:
        log_of("index"),
    benchmark:
        benchmark_of("index")
    priority: FIRST
    conda:
        "../envs/weakseg.yaml"
    threads: CASES_AT_ONCE
    resources:
        **needs("medium"),
    params:
        spec=spec,
    shell:
        command("index")


rule preprocess:
    input:
        upstream,
    output:
        record("preprocess"),
    log:
        log_of("preprocess"),
    benchmark:
        benchmark_of("preprocess")
    priority: FIRST
    conda:
        "../envs/weakseg.yaml"
    threads: CASES_AT_ONCE
    resources:
        **needs("large"),
    params:
        spec=spec,
    shell:
        command("preprocess")


rule truth:
    input:
        upstream,
    output:
        record("truth"),
    log:
        log_of("truth"),
    benchmark:
        benchmark_of("truth")
    priority: FIRST
    conda:
        "../envs/weakseg.yaml"
    threads: CASES_AT_ONCE
    resources:
        **needs("medium"),
    params:
        spec=spec,
    shell:
        command("truth")


rule labels:
    input:
        upstream,
    output:
        record("labels"),
    log:
        log_of("labels"),
    benchmark:
        benchmark_of("labels")
    priority: SOON
    conda:
        "../envs/weakseg.yaml"
    threads: 1
    resources:
        **needs("small"),
    params:
        spec=spec,
    shell:
        command("labels")


rule supervoxels:
    input:
        upstream,
    output:
        record("supervoxels"),
    log:
        log_of("supervoxels"),
    benchmark:
        benchmark_of("supervoxels")
    priority: FIRST
    conda:
        "../envs/weakseg.yaml"
    threads: CASES_AT_ONCE
    resources:
        **needs("medium"),
    params:
        spec=spec,
    shell:
        command("supervoxels")


rule anatomy:
    input:
        upstream,
    output:
        record("anatomy"),
    log:
        log_of("anatomy"),
    benchmark:
        benchmark_of("anatomy")
    priority: FIRST
    conda:
        "../envs/weakseg.yaml"
    threads: CASES_AT_ONCE
    resources:
        **needs("medium"),
    params:
        spec=spec,
    shell:
        command("anatomy")


rule anomalies:
    input:
        upstream,
    output:
        record("anomalies"),
    log:
        log_of("anomalies"),
    benchmark:
        benchmark_of("anomalies")
    priority: FIRST
    conda:
        "../envs/weakseg.yaml"
    threads: CASES_AT_ONCE
    resources:
        **needs("medium"),
    params:
        spec=spec,
    shell:
        command("anomalies")
