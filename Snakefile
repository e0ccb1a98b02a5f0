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


rule sneak_attack:
    input:
        published("sneak_attack"),


rule coin:
    input:
        published("coin"),


rule hemorrhage:
    input:
        published("hemorrhage"),


rule refinements:
    input:
        published("refinements"),


rule relevance_maps:
    input:
        published("relevance_maps"),


rule cross_modality:
    input:
        published("cross_modality"),


rule studies:
    input:
        published("sneak_attack"),
        published("coin"),
        published("hemorrhage"),
        published("refinements"),
        published("relevance_maps"),
        published("cross_modality"),
