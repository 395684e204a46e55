"""Does a test notice when a promise is broken? Small faults, one at a time, in a copy of the source.

::

    .venv/bin/python tests/mutations.py                          # every fault
    .venv/bin/python tests/mutations.py guard-prefers-a-tie      # the named ones
    .venv/bin/python tests/mutations.py --list                   # which there are
    .venv/bin/python tests/mutations.py --jobs 2                 # two at a time

Each fault is a change that a programmer could make by mistake and that no error message would tell. The tests that must
notice it run in a process of their own, without those marked nightly: ``make test`` alone has to notice every fault. A
fault is noticed when one of these tests fails; a test that cannot be imported or set up is no proof. First the same
tests run without a fault, and must pass.

Exit code 0: every fault was noticed. 1: one was missed, or its tests could not run. 2: nothing could be tried, because
a fault does not fit the source any more, a test file is gone, or the tests fail without any fault.

``make test`` does not run this script, and pytest does not collect it.
"""

from __future__ import annotations

import argparse
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "keras_transfer",
    "keras_transfer_segmentation",
    "keras_transfer_siamese",
    "keras_transfer_gan",
    "keras_transfer_tests",
)
"""What must be imported from the copy."""
PATHS = ("plugins/*/src", "tests/support/src")
"""Where the copy holds packages besides its root. ``PYTHONPATH`` comes before every editable install."""
BASELINE_SECONDS = 3600.0
TAIL = 25
"""Lines of the output that are shown of tests that could not run."""

GAN, GAN_TESTS = "plugins/keras-transfer-gan/src/keras_transfer_gan", "plugins/keras-transfer-gan/tests"
SEGMENTATION = "plugins/keras-transfer-segmentation/src/keras_transfer_segmentation"
SEGMENTATION_TESTS = "plugins/keras-transfer-segmentation/tests"
SIAMESE = "plugins/keras-transfer-siamese/src/keras_transfer_siamese"
SIAMESE_TESTS = "plugins/keras-transfer-siamese/tests"


@dataclass(frozen=True)
class Mutation:
    """One fault.

    Attributes:
        name: for the command line and the table.
        file: that is changed, from the repository's root.
        before: text that the file holds exactly once.
        after: what takes its place.
        tests: files or node ids of pytest that must notice, cheap ones.
        why: what a user would lose.
    """

    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]
    why: str


MUTATIONS = (
    # ------------------------------------------------------------------ training
    Mutation(
        "frozen-statistics-move",
        "keras_transfer/freeze_plan.py",
        'if batchnorm == "train"\n',
        'if batchnorm != "adapt"\n',
        ("tests/test_freeze_plan.py::test_the_plan_counts_what_keras_then_trains",),
        "Batch normalization that was to stay frozen learns, and its statistics move.",
    ),
    Mutation(
        "seal-forgets-statistics",
        "keras_transfer/freeze_plan.py",
        "            for variable in layer.weights\n        }",
        '            for variable in layer.weights\n            if "moving" not in variable.path\n        }',
        ("tests/test_freeze_plan.py::test_a_frozen_weight_or_statistic_that_changed_is_named",),
        "The proof after training does not look at moving statistics.",
    ),
    Mutation(
        "norms-left-as-they-were",
        "keras_transfer/freezing.py",
        "chosen -= {layer.name for layer in norms}",
        "chosen -= {layer.name for layer in norms if not layer.trainable}",
        ("tests/test_promises_held.py::test_batch_normalization_that_trains_is_frozen_unless_asked_for",),
        "Unfreezing trains every batch normalization that was trainable before.",
    ),
    Mutation(
        "resume-forgets-optimizer",
        "keras_transfer/training/finetune.py",
        "record.restore(feed.network.optimizer if record.done > phase.start else None)",
        "record.restore()",
        ("tests/training/test_finetune.py::test_taken_up_after_any_epoch_it_ends_with_the_same_weights",),
        "A resumed training begins with an empty optimizer and ends with other weights.",
    ),
    Mutation(
        "rates-of-blocks-ignored",
        "keras_transfer/training/finetune.py",
        "(phase.plan.variable_multipliers(self.model) or None) if phase.plan else None",
        "None",
        ("tests/training/test_finetune.py::test_each_block_learns_at_its_own_rate",),
        "Every block learns at the full rate, whatever --layer-decay says.",
    ),
    Mutation(
        "last-epoch-kept-for-the-best",
        "keras_transfer/training/callbacks.py",
        "if self.best_trained == self.done:",
        "if self.best_trained <= self.done:",
        (
            "tests/test_promises_held.py::test_the_weights_of_the_best_epoch_come_back_and_not_those_of_the_last",
        ),
        "The weights of the last epoch are delivered as those of the best one.",
    ),
    Mutation(
        "patience-counts-earlier-phases",
        "keras_transfer/training/callbacks.py",
        "self.done - max(self.best_trained, self.patient_until)",
        "self.done - self.best_trained",
        (
            "tests/training/test_finetune.py::"
            "test_patience_counts_from_the_best_trained_epoch_of_the_last_phase",
        ),
        "Training stops before the last phase began.",
    ),
    Mutation(
        "guard-prefers-a-tie",
        "keras_transfer/training/guard.py",
        "after > before if higher else after < before",
        "after >= before if higher else after <= before",
        ("tests/training/test_guard.py",),
        "A fine-tuned network that is no better replaces the probe.",
    ),
    Mutation(
        "guard-makes-up-for-a-worse-metric",
        "keras_transfer/training/guard.py",
        "if verdicts[0].worse:",
        "if verdicts[0].worse and verdicts[0].certain:",
        ("tests/training/test_guard.py",),
        "A network that is worse on the main metric is kept for its log loss.",
    ),
    Mutation(
        "guard-always-keeps-the-fine-tuned",
        "keras_transfer/tasks/transfer.py",
        'kept = "fine-tuned" if decider.better or not fit.guard else "probe"',
        'kept = "fine-tuned" if decider.better or fit.guard else "probe"',
        ("tests/workflow/test_trust.py::test_fine_tuning_that_is_not_better_leaves_the_probe",),
        "The guard keeps the fine-tuned network, and it is worse than the probe.",
    ),
    Mutation(
        "folding-leaves-the-bias-unscaled",
        "keras_transfer/training/folding.py",
        "shift = shift + convolution.bias * scale",
        "shift = shift + convolution.bias",
        ("tests/training/test_folding.py::test_the_same_answers_and_gradients",),
        "Training sees other activations than the network that is delivered.",
    ),
    Mutation(
        "folding-takes-norms-that-train",
        "keras_transfer/training/folding.py",
        "if type(layer) is not keras.layers.BatchNormalization or layer.trainable:",
        "if type(layer) is not keras.layers.BatchNormalization:",
        ("tests/training/test_folding.py::test_what_trains_or_is_something_else_stays",),
        "A normalization that is to learn is folded away and does not.",
    ),
    Mutation(
        "adapt-turns-momentum-round",
        "keras_transfer/training/adapt.py",
        "variance = kept * old_variance + (1 - kept) * variance\n        layer.moving_mean",
        "variance = (1 - kept) * old_variance + kept * variance\n        layer.moving_mean",
        (
            "tests/training/test_adapt.py::"
            "test_the_first_layer_gets_the_statistics_of_all_images_and_one_batch_answers_as_in_training",
        ),
        "Adapted batch normalization keeps the variances of the other camera.",
    ),
    Mutation(
        "statistics-remember-too-long",
        "keras_transfer/training/statistics.py",
        "longest = max(SHORTEST, 1 - 1 / steps)",
        "longest = min(SHORTEST, 1 - 1 / steps)",
        ("tests/training/test_statistics.py::test_the_memory_is_an_epoch",),
        "Moving statistics average over too few batches.",
    ),
    Mutation(
        "probe-chosen-on-training-images",
        "keras_transfer/training/probe.py",
        'best = min(trials, key=lambda trial: trial["val_loss"])',
        'best = min(trials, key=lambda trial: trial["train_loss"])',
        ("tests/test_promises_held.py::test_the_probes_strength_is_the_one_with_the_lowest_validation_loss",),
        "The regularisation is chosen on the images that were learned from.",
    ),
    Mutation(
        "standardisation-not-folded-into-the-bias",
        "keras_transfer/training/standardising.py",
        "    w = w / deviation[:, None]\n    return w, b - mean @ w",
        "    return w / deviation[:, None], b - mean @ w",
        ("tests/training/test_probe.py::test_the_dense_layer_equals_the_standardised_regression",),
        "The delivered head decides otherwise than the regression that was fitted.",
    ),
    Mutation(
        "views-not-taken-in-turn",
        "keras_transfer/training/split_cache.py",
        "yield (kept.take(batch, epoch % kept.views),",
        "yield (kept.take(batch, first_epoch % kept.views),",
        ("tests/training/test_split_cache.py::test_epochs_take_turns_with_the_views",),
        "Every epoch sees the same augmented view of an image.",
    ),
    # ------------------------------------------------------------------ features
    Mutation(
        "cache-key-without-preprocessing",
        "keras_transfer/features/extraction.py",
        '            "preprocessing": preprocessing.fingerprint(),\n',
        "",
        ("tests/features/test_cache.py::test_another_preprocessing_is_computed",),
        "Features of cropped images are given for squashed ones.",
    ),
    Mutation(
        "activations-key-without-preprocessing",
        "keras_transfer/features/activations.py",
        '        "preprocessing": preprocessing.fingerprint(),\n',
        "",
        ("tests/test_promises_held.py::test_activations_belong_to_their_preprocessing",),
        "A training on cropped images learns from activations of squashed ones.",
    ),
    Mutation(
        "hash-without-statistics",
        "keras_transfer/features/identity.py",
        "for weight in model.weights:",
        "for weight in model.trainable_weights:",
        ("tests/features/test_identity.py::test_batch_normalization_statistics_count",),
        "A network with other moving statistics is given the features of the first.",
    ),
    Mutation(
        "damaged-features-believed",
        "keras_transfer/features/shards.py",
        "if hashlib.sha256(np.ascontiguousarray(array).data).hexdigest() != shard.checksum:",
        "if len(array) != len(shard.digests):",
        ("tests/features/test_cache.py::test_a_damaged_shard_is_computed_again",),
        "Features that the disk damaged are used.",
    ),
    Mutation(
        "cache-evicts-what-was-just-written",
        "keras_transfer/features/cache.py",
        "if kept.isdisjoint(item.files) and not",
        "if not",
        ("tests/features/test_cache.py::test_what_this_run_wrote_is_never_evicted",),
        "A run loses the features that it has just computed.",
    ),
    Mutation(
        "dropout-below-the-boundary",
        "keras_transfer/features/boundary.py",
        "return getattr(operation, strength) == 0",
        "return not operation.trainable",
        (
            "tests/features/test_boundary.py::"
            "test_what_behaves_differently_in_training_is_not_below_the_boundary",
        ),
        "Activations are kept that training would draw anew in every epoch.",
    ),
    # ------------------------------------------------------------------ export
    Mutation(
        "parity-ten-times-as-wide",
        "keras_transfer/export/parity.py",
        "SAME_NUMBERS = 1e-4",
        "SAME_NUMBERS = 1e-3",
        ("tests/export/test_export_parity.py",),
        "A float32 file that answers otherwise than Keras is delivered.",
    ),
    Mutation(
        "drop-of-an-error-not-a-share",
        "keras_transfer/export/parity.py",
        "if parity.score <= parity.keras_score + tolerance.drop * abs(parity.keras_score) + 1e-9:",
        "if parity.score <= parity.keras_score + tolerance.drop * 100 + 1e-9:",
        ("tests/export/test_export_parity.py",),
        "A quantized regression may lose any amount.",
    ),
    Mutation(
        "bundle-hash-not-checked",
        "keras_transfer/export/bundle.py",
        'if path.stat().st_size != recorded["bytes"] or digest(path)[1] != recorded["sha256"]:',
        'if path.stat().st_size != recorded["bytes"]:',
        ("tests/export/test_bundle.py::test_one_changed_byte_is_found_and_the_file_is_named",),
        "A file of the bundle with one byte changed is used.",
    ),
    Mutation(
        "labels-in-any-order",
        "keras_transfer/export/bundle.py",
        'if labels != list(info["labels"]):',
        'if set(labels) != set(info["labels"]):',
        ("tests/export/test_bundle.py::test_a_list_that_was_changed_is_one_sentence",),
        "labels.txt in another order than the outputs is accepted.",
    ),
    Mutation(
        "verify-ignores-labels-inside",
        "keras_transfer/export/verify.py",
        "if attached_labels((bundle.path / file).read_bytes()) == bundle.labels:",
        "if len(attached_labels((bundle.path / file).read_bytes()) or ()) == len(bundle.labels):",
        ("tests/export/test_bundle.py::test_other_labels_inside_a_tflite_fail_verification",),
        "A phone names the classes the other way round.",
    ),
    Mutation(
        "verify-ignores-the-tolerance",
        "keras_transfer/export/verify.py",
        "    if difference <= allowed:\n",
        "    if difference <= max(allowed, 1.0):\n",
        ("tests/export/test_bundle.py::test_changed_expectations_and_pixels_fail_verification",),
        "An artefact that gives other probabilities than recorded passes.",
    ),
    Mutation(
        "golden-images-from-the-training",
        "keras_transfer/export/golden.py",
        "for name in (split, *(other for other in SPLITS if other != split)):",
        "for name in SPLITS:",
        (
            "tests/test_promises_held.py::test_golden_images_are_of_the_split_asked_for_and_others_fill_up_what_it_lacks",
        ),
        "The bundle's proof is about images that were learned from.",
    ),
    Mutation(
        "parts-of-other-shapes-joined",
        "keras_transfer/export/stitching.py",
        "same = given.type == wanted.type and list(given.shape) == list(wanted.shape)",
        "same = given.type == wanted.type",
        ("tests/export/test_export_quantization.py::test_stitching_refuses_what_does_not_fit",),
        "A file whose head does not fit its backbone is written.",
    ),
    Mutation(
        "labels-attached-sorted",
        "keras_transfer/export/metadata.py",
        '"".join(f"{name}\\n" for name in labels)',
        '"".join(f"{name}\\n" for name in sorted(labels))',
        ("tests/export/test_bundle.py::test_other_labels_inside_a_tflite_fail_verification",),
        "The labels inside a .tflite are not in the order of its outputs.",
    ),
    Mutation(
        "bias-correction-with-the-wrong-sign",
        "keras_transfer/export/quantization.py",
        "error = exact(batch).astype(np.float64) - quantized(batch)",
        "error = quantized(batch) - exact(batch).astype(np.float64)",
        ("tests/export/test_export_quantization.py::test_mean_error_is_a_number_a_channel",),
        "The correction of int8 doubles the error instead of taking it away.",
    ),
    Mutation(
        "calibrated-on-the-first-class",
        "keras_transfer/export/calibration.py",
        "        shares = np.maximum(shares, 1)\n",
        "        shares = np.maximum(shares, 0)\n",
        ("tests/export/test_export_calibration.py",),
        "Rare classes are left out of the calibration of int8.",
    ),
    Mutation(
        "integers-cut-off-not-rounded",
        "keras_transfer/litert.py",
        "stored = np.rint(real.astype(np.float32) / np.float32(tensor.scale)) + tensor.zero_point",
        "stored = np.trunc(real.astype(np.float32) / np.float32(tensor.scale)) + tensor.zero_point",
        ("tests/test_promises_held.py::test_integer_inputs_are_the_nearest_step",),
        "Integer inputs are half a step too low.",
    ),
    # ------------------------------------------------------------------ images and data
    Mutation(
        "crop-from-the-corner",
        "keras_transfer/preprocessing.py",
        "left = (w - inner) / 2",
        "left = 0.0",
        ("tests/test_preprocessing.py::test_crop_takes_the_centre",),
        "The resize rule 'crop' takes the left part of an image.",
    ),
    Mutation(
        "orientation-turned-the-other-way",
        "keras_transfer/preprocessing.py",
        "6: Image.Transpose.ROTATE_270,",
        "6: Image.Transpose.ROTATE_90,",
        ("tests/test_preprocessing.py::test_exif_orientation",),
        "Photographs of a phone held upright stand on their heads.",
    ),
    Mutation(
        "padding-not-centred",
        "keras_transfer/preprocessing.py",
        "result.paste(inner, ((width - inner_width) // 2, (height - inner_height) // 2))",
        "result.paste(inner, ((width - inner_width) // 2, -(-(height - inner_height) // 2)))",
        ("tests/test_preprocessing.py::test_pad_centres_on_black",),
        "An odd margin is on the other side than in the script of the bundle.",
    ),
    Mutation(
        "duplicates-in-two-splits",
        "keras_transfer/data/splits.py",
        "keys = [(-1, digest), *((place, str(column[i])) for place, column in enumerate(columns))]",
        "keys = [(place, str(column[i])) for place, column in enumerate(columns)]",
        ("tests/data/test_data_splits.py::test_groups_and_duplicates_stay_whole_and_order_does_not_matter",),
        "Copies of a training image are tested on.",
    ),
    Mutation(
        "split-ignores-the-seed",
        "keras_transfer/data/splits.py",
        'f"{seed}:{min(sha256[i] for i in rows)}"',
        'f"{min(sha256[i] for i in rows)}"',
        ("tests/data/test_data_splits.py::test_seed",),
        "Every seed gives the same split.",
    ),
    Mutation(
        "classes-in-order-of-appearance",
        "keras_transfer/data/labels.py",
        "names = tuple(default) or tuple(sorted(found))",
        "names = tuple(default) or tuple(dict.fromkeys(name for row in rows for name in row))",
        ("tests/data/test_data_arrays.py::test_names",),
        "The order of the outputs depends on the order of the rows.",
    ),
    Mutation(
        "every-epoch-in-one-order",
        "keras_transfer/data/order.py",
        "generator = np.random.default_rng((seed, epoch))",
        "generator = np.random.default_rng((seed, 0))",
        ("tests/training/test_split_cache.py::test_an_epoch_is_a_permutation_or_a_draw_by_chances",),
        "Images come in the same batches in every epoch.",
    ),
    Mutation(
        "damaged-memory-of-checks-believed",
        "keras_transfer/data/checking.py",
        "if hashlib.sha256(content).hexdigest() == path.stem and len(content) % 32 == 0:",
        "if len(content) % 32 == 0:",
        ("tests/data/test_data_checking.py::test_a_damaged_memory_is_not_believed",),
        "Images are taken for checked that nobody looked at.",
    ),
    # ------------------------------------------------------------------ runs, networks, metrics
    Mutation(
        "unfinished-run-of-another-request-taken-up",
        "keras_transfer/run.py",
        'if asked.read_text(encoding="utf-8") == wanted:',
        'if asked.read_text(encoding="utf-8") == wanted or _has_state(partial):',
        ("tests/test_run.py::test_another_request_is_not_mixed_with_an_unfinished_one",),
        "A run of one seed is finished with the checkpoints of another.",
    ),
    Mutation(
        "interruption-loses-the-earlier-run",
        "keras_transfer/run.py",
        "except BaseException:  # an interruption too: the earlier run keeps its place",
        "except Exception:",
        ("tests/test_run.py::test_an_interruption_at_the_last_moment_loses_neither_run",),
        "Ctrl-C at the last moment leaves no run under the name.",
    ),
    Mutation(
        "split-head-without-hidden-layers",
        "keras_transfer/heads.py",
        'layer.name.startswith("head_hidden_") or layer.name == LOGITS:',
        'layer.name == "head_hidden_0" or layer.name == LOGITS:',
        ("tests/test_heads.py::test_head_of_features_equals_the_model",),
        "A head of several layers is trained without some of them.",
    ),
    Mutation(
        "lite-pixels-scaled-like-tf",
        "keras_transfer/backbones/scaling.py",
        "return rescaling(1 / 128, -127 / 128,",
        "return rescaling(1 / 127.5, -1.0,",
        ("tests/backbones/test_backbones_catalog.py::test_the_other_modes",),
        "EfficientNet-Lite sees other numbers than it was trained on.",
    ),
    Mutation(
        "weights-that-are-no-numbers-loaded",
        "keras_transfer/backbones/matching.py",
        "if not all(np.isfinite(array).all() for arrays in fitting.values() for array in arrays):",
        "if not all(np.isfinite(array).any() for arrays in fitting.values() for array in arrays):",
        ("tests/backbones/test_backbones_weights.py::test_values_that_are_not_finite",),
        "A damaged weights file gives a network that answers NaN.",
    ),
    Mutation(
        "recall-of-absent-classes-counted",
        "keras_transfer/evaluation/metrics.py",
        '"balanced_accuracy": float(recall[occurs].mean()),',
        '"balanced_accuracy": float(recall.mean()),',
        ("tests/evaluation/test_metrics.py",),
        "The balanced accuracy falls with every class that the test images do not show.",
    ),
    Mutation(
        "calibration-error-not-weighted",
        "keras_transfer/evaluation/calibration.py",
        'return float(sum(row["images"] * abs(row["accuracy"] - row["confidence"]) for row in filled) / total)',
        'return float(sum(abs(row["accuracy"] - row["confidence"]) for row in filled) / len(filled))'
        " if total else 0.0",
        ("tests/evaluation/test_calibration.py",),
        "A bin of one image counts as much as a bin of a hundred.",
    ),
    Mutation(
        "threshold-reached-only-from-above",
        "keras_transfer/evaluation/multilabel.py",
        "truth, given = labels > 0, probabilities >= cuts",
        "truth, given = labels > 0, probabilities > cuts",
        ("tests/evaluation/test_multilabel_metrics.py",),
        "Metrics count other labels than the predictions name.",
    ),
    # ------------------------------------------------------------------ plugins
    Mutation(
        "mask-interpolated-bilinearly",
        f"{SEGMENTATION}/resizing.py",
        'interpolation="nearest"',
        'interpolation="bilinear"',
        (f"{SEGMENTATION_TESTS}/test_segmentation_resizing.py::test_resizing_never_invents_a_class",),
        "Between two classes a resized mask has a third.",
    ),
    Mutation(
        "absent-class-counts-as-wrong",
        f"{SEGMENTATION}/metrics.py",
        "out=np.full(np.shape(b), np.nan)",
        "out=np.zeros(np.shape(b))",
        (f"{SEGMENTATION_TESTS}/test_segmentation_metrics.py::test_by_hand",),
        "The mean IoU falls with every class that an image does not show.",
    ),
    Mutation(
        "grey-of-few-bits-taken-as-it-is",
        f"{SEGMENTATION}/masks.py",
        "content[24] in (2, 4):",
        "content[24] in (2,):",
        (f"{SEGMENTATION_TESTS}/test_segmentation_masks.py::test_grey_of_few_bits_holds_small_indices",),
        "The classes of a 4-bit mask are read as 0, 17, 34.",
    ),
    Mutation(
        "gallery-threshold-ignored",
        f"{SIAMESE}/recognising.py",
        '"name": best.name if known else None,',
        '"name": best.name,',
        (
            f"{SIAMESE_TESTS}/test_siamese_verbs.py::"
            "test_an_enrolled_image_is_recognised_and_another_thing_is_unknown",
        ),
        "A stranger is taken for the most alike of those enrolled.",
    ),
    Mutation(
        "removed-person-stays-in-the-file",
        f"{SIAMESE}/gallery.py",
        "PRAGMA secure_delete = ON",
        "PRAGMA secure_delete = OFF",
        (f"{SIAMESE_TESTS}/test_siamese_gallery.py::test_removing_leaves_nothing_of_the_person_in_the_file",),
        "The embedding of a person who was removed can still be read from the file.",
    ),
    Mutation(
        "query-among-the-support",
        f"{SIAMESE}/episodes.py",
        "drawn[..., setting.shots :]",
        "drawn[..., setting.shots - 1 :]",
        (
            f"{SIAMESE_TESTS}/test_siamese_metrics.py::"
            "test_support_and_query_are_different_images_of_one_class",
        ),
        "One-shot recognition is measured on the image that was enrolled.",
    ),
    Mutation(
        "precisions-judged-by-the-better-one",
        f"{SIAMESE}/identity.py",
        "least = min(given.cosine, gallery.cosine)",
        "least = max(given.cosine, gallery.cosine)",
        (
            f"{SIAMESE_TESTS}/test_siamese_gallery.py::"
            "test_another_precision_of_the_model_is_judged_by_its_cosine",
        ),
        "Embeddings of an int8 file are compared with others from which they are far.",
    ),
    Mutation(
        "hinge-pushes-the-wrong-way",
        f"{GAN}/losses.py",
        "ops.mean(ops.relu(1 + fake))",
        "ops.mean(ops.relu(1 - fake))",
        (f"{GAN_TESTS}/test_gan_losses.py::test_the_discriminators_loss",),
        "The discriminator learns to call made images real.",
    ),
    Mutation(
        "images-depend-on-how-many-are-made",
        f"{GAN}/drawing.py",
        "noise = np.random.default_rng(seed).standard_normal((count, facts.noise), dtype=np.float32)",
        "noise = np.random.default_rng(seed).standard_normal((facts.noise, count), dtype=np.float32).T",
        (f"{GAN_TESTS}/test_gan_networks.py::test_the_first_images_of_a_seed_do_not_depend_on_their_number",),
        "Image 3 of a seed is another one when more images are made.",
    ),
    Mutation(
        "kid-counts-an-image-with-itself",
        f"{GAN}/metrics.py",
        "    np.fill_diagonal(pairs, 0.0)\n",
        "",
        (f"{GAN_TESTS}/test_gan_metrics.py::test_kid_is_the_mean_over_all_pairs_of_different_images",),
        "KID of few images is too large.",
    ),
)


class CannotBegin(Exception):
    """Nothing can be tried; the message says why."""


@dataclass(frozen=True)
class Outcome:
    """What became of a fault.

    Attributes:
        mutation: the fault.
        state: ``noticed``, ``MISSED`` or ``could not run``.
        by: the tests that failed.
        seconds: wall-clock.
        output: of pytest.
    """

    mutation: Mutation
    state: str
    by: tuple[str, ...] = ()
    seconds: float = 0.0
    output: str = field(default="", repr=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = parse(arguments)
    chosen = [one for one in MUTATIONS if not options.names or one.name in options.names]
    if options.list:
        for one in chosen:
            click.echo(f"{one.name:45} {one.file}\n    {one.why}")
        return 0
    for stop in (signal.SIGINT, signal.SIGTERM):  # both end the tests too, also in the background
        signal.signal(stop, signal.default_int_handler)
    try:
        require_fitting(chosen)
        with tempfile.TemporaryDirectory(prefix="mutations_") as folder:
            outcomes = try_all(chosen, Path(folder), options)
    except CannotBegin as problem:
        click.echo(str(problem), err=True)
        return 2
    except KeyboardInterrupt:
        click.echo("Stopped.", err=True)
        return 130
    report(outcomes)
    return 0 if all(one.state == "noticed" for one in outcomes) else 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; ends the program with exit code 2 where they cannot be."""
    parser = argparse.ArgumentParser(description="Apply small faults to a copy of the source, one at a time.")
    parser.add_argument("names", nargs="*", help="of the faults; all by default")
    parser.add_argument("--list", action="store_true", help="tell the faults and run nothing")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="faults at a time (default 1)")
    parser.add_argument(
        "--timeout", type=float, default=600.0, metavar="SECONDS", help="for the tests of a fault"
    )
    parser.add_argument("--skip-baseline", action="store_true", help="do not run the tests without a fault")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - {one.name for one in MUTATIONS})
    if unknown:
        parser.error(f"there is no fault {', '.join(unknown)}; --list tells which there are")
    if options.jobs < 1 or not options.timeout > 0:
        parser.error("--jobs and --timeout must be above 0")
    return options


def require_fitting(mutations: Sequence[Mutation]) -> None:
    """Raise :class:`CannotBegin` for a fault that does not fit the source, or whose tests are gone; all are named."""
    wrong = []
    for one in mutations:
        path = ROOT / one.file
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        count = text.count(one.before)
        if not path.is_file():
            wrong.append(f"{one.name}: there is no {one.file}")
        elif count != 1:
            wrong.append(f"{one.name}: {one.file} holds the text {one.before!r} {count} times, not once")
        else:
            try:
                compile(text.replace(one.before, one.after), one.file, "exec")
            except SyntaxError as error:
                wrong.append(f"{one.name}: what comes out is not Python ({error})")
        for test in one.tests:
            if not (ROOT / test.partition("::")[0]).is_file():
                wrong.append(f"{one.name}: there is no {test.partition('::')[0]}")
    if len({one.name for one in mutations}) < len(mutations):
        wrong.append("a name is given to two faults")
    if wrong:
        raise CannotBegin("These faults do not fit the source any more:\n  " + "\n  ".join(wrong))


def try_all(mutations: Sequence[Mutation], folder: Path, options: argparse.Namespace) -> list[Outcome]:
    """The outcomes, in the order of ``mutations``. Each job has a copy of the source in ``folder``."""
    jobs = min(options.jobs, len(mutations))
    copies = [Copy(folder / str(number), jobs) for number in range(jobs)]
    click.echo(f"{jobs} {'copy' if jobs == 1 else 'copies'} of the source in {folder}")
    copies[0].require_own_packages()
    if not options.skip_baseline:
        copies[0].require_passing(tuple(dict.fromkeys(test for one in mutations for test in one.tests)))
    free: queue.Queue[Copy] = queue.Queue()
    for copy in copies:
        free.put(copy)

    def attempt(one: Mutation) -> Outcome:
        copy = free.get()
        try:
            return copy.attempt(one, options.timeout)
        finally:
            free.put(copy)

    found: dict[str, Outcome] = {}
    with ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(attempt, one) for one in mutations]
        try:
            for future in as_completed(waiting):
                one = future.result()
                found[one.mutation.name] = one
                by = one.by[0] if one.by else ""
                click.echo(
                    f"[{len(found):2}/{len(mutations)}] {one.state:13} {one.seconds:6.1f} s  {one.mutation.name}  {by}"
                )
        except BaseException:  # Ctrl-C: the tests have a session of their own and do not hear it
            pool.shutdown(wait=False, cancel_futures=True)
            for copy in copies:
                copy.stop()
            raise
    return [found[one.name] for one in mutations]


class Copy:
    """A copy of the repository's source that may be changed, and the environment in which its tests run.

    Args:
        folder: where it is made.
        jobs: how many copies are worked on at a time; they share the cores.
    """

    def __init__(self, folder: Path, jobs: int) -> None:
        self.folder, self.jobs = folder, jobs
        self._process: subprocess.Popen[bytes] | None = None
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
        for name in map(os.fsdecode, listed.stdout.split(b"\0")):
            if name and (ROOT / name).is_file():  # one that was removed is still listed
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
        self.environment = self._environment()

    def _environment(self) -> Mapping[str, str]:
        found = (path for pattern in PATHS for path in sorted(self.folder.glob(pattern)))
        places = [str(path) for path in (self.folder, *found)]
        # No compiled files: a fault and its undoing within a second and of one length would not be seen.
        values = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "PYTHONDONTWRITEBYTECODE": "1"}
        for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"):
            values.pop(name, None)
        if self.jobs > 1:
            threads = str(max(1, (os.cpu_count() or 1) // self.jobs))
            for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
                values[name] = threads
        return values

    def require_own_packages(self) -> None:
        """Raise :class:`CannotBegin` where a package would come from elsewhere: no fault would be seen then."""
        code = f"import {', '.join(PACKAGES)}\nfor one in ({', '.join(PACKAGES)}): print(one.__file__)"
        status, output = self._run([sys.executable, "-c", code], 120.0)
        places = output.split()
        if status or not all(Path(place).is_relative_to(self.folder) for place in places):
            raise CannotBegin(f"The copy's packages are not those that are imported:\n{output}")

    def require_passing(self, tests: tuple[str, ...]) -> None:
        """Raise :class:`CannotBegin` unless the tests pass without a fault."""
        click.echo(f"Without a fault: {len(tests)} files and tests ...")
        begin = time.monotonic()
        parallel = ("-n", str(self.jobs), "--dist", "loadfile") if self.jobs > 1 else ()
        status, output = self._pytest(*parallel, *tests, timeout=BASELINE_SECONDS)
        if status:
            raise CannotBegin(f"These tests do not pass without a fault:\n{tail(output)}")
        click.echo(f"They pass ({time.monotonic() - begin:.0f} s).")

    def attempt(self, mutation: Mutation, timeout: float) -> Outcome:
        """Make the fault, run its tests, undo it."""
        begin = time.monotonic()
        with self._changed(mutation):
            status, output = self._pytest("-x", *mutation.tests, timeout=timeout)
        by = tuple(re.findall(r"^FAILED (.+?)(?: - .*)?$", output, re.MULTILINE))
        state = "MISSED" if status == 0 else "noticed" if status == 1 and by else "could not run"
        return Outcome(mutation, state, by, time.monotonic() - begin, output)

    @contextmanager
    def _changed(self, mutation: Mutation) -> Iterator[None]:
        path = self.folder / mutation.file
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(mutation.before, mutation.after), encoding="utf-8")
        try:
            yield
        finally:
            path.write_text(text, encoding="utf-8")

    def _pytest(self, *arguments: str, timeout: float) -> tuple[int | None, str]:
        place = self.folder.with_name(f"{self.folder.name}_files")
        fixed = ("-m", "not nightly", "-q", "--color=no", "-p", "no:cacheprovider", f"--basetemp={place}")
        return self._run([sys.executable, "-m", "pytest", *fixed, *arguments], timeout)

    def _run(self, command: Sequence[str], timeout: float) -> tuple[int | None, str]:
        """Exit status (None: it took too long) and what was printed; no process of it is left."""
        with tempfile.TemporaryFile() as printed:
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            late = ""
            try:
                status: int | None = self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                status, late = None, f"\nStopped after {timeout:.0f} s."
            finally:
                self.stop()
            printed.seek(0)
            return status, printed.read().decode("utf-8", "replace") + late

    def stop(self) -> None:
        """Kill the tests that run, with all processes they started."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def tail(output: str) -> str:
    """The last lines, indented."""
    return "\n".join(f"    {line}" for line in output.rstrip().splitlines()[-TAIL:])


def report(outcomes: Sequence[Outcome]) -> None:
    """Print the table, and what is to be known of faults that were not noticed."""
    rows = [("fault", "file", "noticed by", "seconds")]
    for one in outcomes:
        rows.append(
            (
                one.mutation.name,
                one.mutation.file,
                one.by[0] if one.state == "noticed" else one.state,
                f"{one.seconds:.1f}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    click.echo()
    for row in rows:
        click.echo("  ".join([*(cell.ljust(w) for cell, w in zip(row[:3], widths, strict=True)), row[3]]))
    for one in outcomes:
        if one.state == "MISSED":
            click.echo(f"\n{one.mutation.name} was missed. {one.mutation.why}")
        elif one.state != "noticed":
            click.echo(f"\n{one.mutation.name}: its tests could not run.\n{tail(one.output)}")
    noticed = sum(one.state == "noticed" for one in outcomes)
    seconds = sum(one.seconds for one in outcomes)
    click.echo(f"\n{noticed} of {len(outcomes)} faults were noticed ({seconds:.0f} s of tests).")


if __name__ == "__main__":
    sys.exit(main())
