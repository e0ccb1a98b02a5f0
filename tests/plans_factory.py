"""What tests of plans share."""

from weakseg.config_maps import MethodsConfig

FEW = {name: None for name in MethodsConfig.model_fields if name not in ("gradcam", "layercam")}
"""What leaves Grad-CAM and LayerCAM alone."""
BOTH_VIEWS = {"views": {"volume": {"seeds": None}}, "maps": {"methods": FEW}}
FITTING = {"optimal_perturbation": {"where": None, "seeds": None}}
"""A method that learns first."""


def folders(planned, *stages):
    """The folders of a plan's runs of some stages."""
    return {run.folder for run in planned.runs.values() if run.stage in stages}
