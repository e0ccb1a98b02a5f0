from snakemake.utils import min_version

min_version("9.27")


configfile: f"{workflow.basedir}/config.yaml"


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/classifiers.smk"
include: "rules/maps.smk"
include: "rules/refinements.smk"
include: "rules/references.smk"
include: "rules/scores.smk"
include: "rules/studies.smk"
include: "rules/report.smk"


rule all:
    default_target: True
    input:
        published("all"),
        page,


rule sneak_attack:
    input:
        published("sneak_attack"),
        page,


rule coin:
    input:
        published("coin"),
        page,


rule hemorrhage:
    input:
        published("hemorrhage"),
        page,


rule refinements:
    input:
        published("refinements"),
        page,


rule relevance_maps:
    input:
        published("relevance_maps"),
        page,


rule cross_modality:
    input:
        published("cross_modality"),
        page,


rule studies:
    input:
        published("sneak_attack"),
        published("coin"),
        published("hemorrhage"),
        published("refinements"),
        published("relevance_maps"),
        published("cross_modality"),
        page,


# Prints what a run with the same overlays would cost.
rule estimate:
    log:
        f"{runs.RESULTS}/logs/estimate/{PLANS['all'].config.name}.log",
    localrule: True
    conda:
        "envs/weakseg.yaml"
    params:
        overlays=[
            part
            for path in workflow.overwrite_configfiles or []
            for part in ("--configfile", path)
        ],
    shell:
        "python -m weakseg estimate {params.overlays:q} | tee {log}"


onsuccess:
    print(summary.succeeded(PLANS))


onerror:
    print(summary.failed(PLANS))
