"""The contract: what a package may import of core, in one place.

`EXTENSIONS` is what modalities, fusions, backbone families, encoders, data sets, metrics and presets are written with:
it stays as it is within a major version of the plugin API (`API_VERSION`). `TOOLS` is what packages that add verbs and
reports use beside it: a minor version may change it, and the changes are listed in docs/plugin-api-changes.md. Whatever
is in neither is core's own and may change at any time.

Every name can be imported from its module or from here; nothing is imported before it is asked for.

Example:
    >>> from crema_core.contract import MediaError, sheet
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from crema_core.errors import did_you_mean

EXTENSIONS: Mapping[str, tuple[str, ...]] = {
    "crema_core.common.atomic": ("fresh_folder", "refuse_foreign", "write_bytes", "write_text"),
    "crema_core.common.progress": ("StatusLine", "describe_duration"),
    "crema_core.common.tables": ("table",),
    "crema_core.common.tensors": ("copy_state", "mismatches"),
    "crema_core.data.clips": ("Timeline", "read_chosen"),
    "crema_core.data.data_file": ("FIELDS", "Record", "read_data_file"),
    "crema_core.data.media": (
        "ARRAY_SUFFIXES",
        "CLIP_SUFFIXES",
        "Clip",
        "FRAME_SUFFIXES",
        "IMAGE_SUFFIXES",
        "Reader",
        "SOUND_SUFFIXES",
        "check_file",
        "colorize",
        "damaged",
        "file_of",
        "list_files",
        "middle_indices",
        "name_of",
        "rate_indices",
        "read_array",
        "read_arrays",
        "read_clip",
        "read_frames",
        "read_image",
        "read_raw_image",
        "read_stack",
        "require_numbers",
        "resize",
        "segment_spans",
        "wrong_source",
    ),
    "crema_core.data.sampling": ("Pick", "middle_indices", "split_span", "spread_indices"),
    "crema_core.data.sheet": ("line", "scale_bar", "sheet", "stack", "times_as_captions"),
    "crema_core.datasets.read": ("Entry", "Place"),
    "crema_core.datasets.spec": ("AnnotationFile", "Column", "DatasetSpec", "Line", "Media", "Wording", "sources"),
    "crema_core.errors": (
        "AssetError",
        "BuildError",
        "CheckpointError",
        "ContractError",
        "CremaError",
        "DatasetError",
        "DataFileError",
        "MediaError",
        "MissingRequirementError",
        "OptionsError",
        "PluginError",
        "did_you_mean",
        "first_line",
    ),
    "crema_core.evaluation.metric": ("Metric", "Pairs", "find_scorer"),
    "crema_core.evaluation.score": ("normalize",),
    "crema_core.fusion": ("FusionWatch", "fusion_class", "plan_fusion"),
    "crema_core.fusion.base": ("Fusion", "FusionPlan", "FusionSizes", "FusionWatch", "ModalitySet", "spread"),
    "crema_core.fusion.connector": (
        "BEFORE_PROJECTOR",
        "Connector",
        "ConnectorRequest",
        "QFormerText",
        "VisualLayout",
        "VisualSource",
    ),
    "crema_core.modality": ("Batch", "BuildContext", "FeaturePart", "Features", "Modality", "Sample"),
    "crema_core.model.backbone": ("Backbone",),
    "crema_core.model.backbone_family": ("BackboneFamily", "BackboneRequest", "NamedCheckpoint", "NamedShape"),
    "crema_core.model.checkpoint": (
        "image_statistics",
        "own_template",
        "processor_chat_template",
        "read_json",
        "read_model",
        "read_tokenizer",
    ),
    "crema_core.model.positions": ("RotaryAxes",),
    "crema_core.model.pretrained": ("load_frozen", "read_config", "read_processor", "require_digest"),
    "crema_core.model.qformer": ("QFormer",),
    "crema_core.model.settings": ("BackboneSettings",),
    "crema_core.model.shapes": ("shape_model", "shape_tokenizer"),
    "crema_core.model.text_decoder": ("causal_model",),
    "crema_core.model.trainable": ("freeze", "names_of", "set_trainable"),
    "crema_core.model.tuning": ("FULL", "LanguageLora"),
    "crema_core.model.chat_format": ("ChatFormat", "video_chat_format"),
    "crema_core.plugins.hookspecs": ("Command", "ReportSection", "hookimpl"),
    "crema_core.plugins.preset": ("Preset", "PresetFamily"),
    "crema_core.plugins.spec": (
        "Asset",
        "Capabilities",
        "InputSpec",
        "MMQASpec",
        "ModalityOptions",
        "ModalitySpec",
        "parse_settings",
        "with_changes",
    ),
    "crema_core.report.html": ("facts_block", "figure_block", "page", "paragraphs", "table_block"),
    "crema_core.tokens": ("Segment", "ModalityFeatures", "ModalityTokens"),
    "crema_core.video.options": ("BACKBONE", "SeeingOptions", "VISION_ENCODER_ASSETS"),
    "crema_core.video.seeing": ("SeeingModality",),
    "crema_core.video.vision_encoder": ("Preprocessing", "VisionEncoder", "vision_encoder_class"),
}
"""Module -> names that are stable within a major version of the plugin API."""

TOOLS: Mapping[str, tuple[str, ...]] = {
    "crema_core.api.build": ("build",),
    "crema_core.api.describe": ("cost_of",),
    "crema_core.api.load": ("load",),
    "crema_core.api.model": ("CremaModel",),
    "crema_core.api.requests": ("ModalityRequest", "Request", "choose_major", "name_and_options", "resolve_requests"),
    "crema_core.cli.fit_config": ("complete", "read_config"),
    "crema_core.cli.inputs": (
        "CONFIG",
        "PRESET_HELP",
        "add_evaluation",
        "add_saved_model",
        "assignments",
        "evaluation_settings",
        "load_saved",
        "model_folder",
        "names",
        "with_options",
        "yaml_value",
    ),
    "crema_core.cli.launch": ("fail", "launch", "wants_launch"),
    "crema_core.cli.main": ("main",),
    "crema_core.common.environment": ("environment",),
    "crema_core.common.processes": ("ALONE", "Processes"),
    "crema_core.data.check": ("check_data_file",),
    "crema_core.data.order": ("derive_seed",),
    "crema_core.datasets.prepare": ("find_dataset", "prepare"),
    "crema_core.evaluation.bootstrap": ("bootstrap_interval",),
    "crema_core.evaluation.breakdown": ("breakdown",),
    "crema_core.evaluation.judge": ("Judge",),
    "crema_core.evaluation.predictions": ("clip_of", "digest", "read_predictions", "records_digest"),
    "crema_core.evaluation.result": ("EvaluationResult",),
    "crema_core.evaluation.run": ("evaluate",),
    "crema_core.evaluation.settings": ("EvaluationSettings",),
    "crema_core.features.feature_cache": ("FeatureCache", "as_cache", "prepare_batch"),
    "crema_core.model.checkpoint": ("BACKBONE", "TEMPLATE"),
    "crema_core.model.language": ("IGNORED", "Language"),
    "crema_core.model.mmqa": ("MMQA",),
    "crema_core.model.prompt": ("Prompt", "pack"),
    "crema_core.model.settings": ("ModelSettings",),
    "crema_core.model.shipped": ("tiny_backbone_path",),
    "crema_core.report.card": ("write_card",),
    "crema_core.report.html": ("ANSWERED", "Line", "examples_block", "read_lines"),
    "crema_core.report.plots": ("COLORS", "DPI", "WIDTH_IN", "accuracy_plot", "heat_map", "new_figure", "png_of"),
    "crema_core.report.run_report": ("run_sections",),
    "crema_core.saving.convert": ("read_released",),
    "crema_core.testing": ("conformance",),
    "crema_core.train.distributed": ("join_processes", "leave_processes", "own_device"),
    "crema_core.train.fit": ("fit",),
    "crema_core.train.metrics": ("METRICS", "read_metrics"),
    "crema_core.train.run": ("BEST", "CHECKPOINTS", "CONFIG", "LAST", "Run"),
    "crema_core.train.settings": ("NOT_A_FOLDER", "preset_settings", "train_settings"),
    "crema_core.train.trainer": ("TrainingInterrupted",),
    "crema_core.video.modality": ("VideoModality",),
    "crema_core.video.plugin": ("SPEC", "VideoOptions"),
}
"""Module -> names for packages that add verbs and reports; a minor version may change them."""

_HOMES = {name: module for part in (TOOLS, EXTENSIONS) for module, names in part.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(
            f"'{name}' is not part of the contract.{did_you_mean(name, _HOMES)} See crema_core.contract.EXTENSIONS."
        )
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
