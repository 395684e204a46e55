"""The faults that :mod:`mutations` tries: what a programmer could change by mistake, and which tests must notice."""

from __future__ import annotations

from dataclasses import dataclass

GAN, GAN_TESTS = "plugins/keras-transfer-gan/src/keras_transfer_gan", "plugins/keras-transfer-gan/tests"
SEGMENTATION = "plugins/keras-transfer-segmentation/src/keras_transfer_segmentation"
SEGMENTATION_TESTS = "plugins/keras-transfer-segmentation/tests"
SIAMESE = "plugins/keras-transfer-siamese/src/keras_transfer_siamese"
SIAMESE_TESTS = "plugins/keras-transfer-siamese/tests"
STRICT = (
    "tests/export/test_strict.py::test_every_file_of_every_task_is_for_one_image_and_can_be_made_for_more"
    "[classification-float32]"
)


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
        "keras_transfer/tasks/verdict.py",
        'kept = "fine-tuned" if (decider.keeps and not one_class) or not guard else "probe"',
        'kept = "fine-tuned" if (decider.keeps and not one_class) or guard else "probe"',
        ("tests/workflow/test_trust.py::test_fine_tuning_that_is_not_better_leaves_the_probe",),
        "The guard keeps the fine-tuned network, and it is worse than the probe.",
    ),
    Mutation(
        "guard-believes-one-image",
        "keras_transfer/training/guard.py",
        "return self.better and (self.certain or self.images >= FEW)",
        "return self.better",
        ("tests/training/test_few_validation_images.py",),
        "A network that is better by one image of four replaces the probe.",
    ),
    Mutation(
        "refit-learns-from-the-measure",
        "keras_transfer/tasks/transfer.py",
        'if not len(data.indices("test")):',
        "if False:",
        ("tests/workflow/test_refitted_runs.py::test_only_a_probe_that_is_kept_is_fitted_again",),
        "Without test images the metrics are measured on images that the head has learned from.",
    ),
    Mutation(
        "refit-of-the-same-images",
        "keras_transfer/training/embedding_problem.py",
        "return np.concatenate([self.train, self.val[self.weight[self.val] > 0]])",
        "return self.train",
        ("tests/training/test_heads_refitted.py",),
        "A head that is said to have learned from validation images has not.",
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
        "keras_transfer/training/choosing.py",
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
        '        "preprocessing": preprocessing.fingerprint(),\n',
        "",
        ("tests/features/test_cache.py::test_another_preprocessing_is_computed",),
        "Features of cropped images are given for squashed ones.",
    ),
    Mutation(
        "cache-key-without-engine-precision",
        "keras_transfer/inference/engines.py",
        'return {"engine": engine, "precision": precision, "runtime": runtime(engine)}',
        'return {"engine": engine, "precision": "float32", "runtime": runtime(engine)}',
        (
            "tests/features/test_openvino.py::"
            "test_features_are_keras_s_in_order_and_each_engine_and_precision_has_its_own",
        ),
        "Features in bfloat16 are given for exact ones.",
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
        "if sha256_of(np.ascontiguousarray(array).data) != shard.checksum:",
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
        'if path.stat().st_size != recorded["bytes"] or size_and_sha256(path)[1] != recorded["sha256"]:',
        'if path.stat().st_size != recorded["bytes"]:',
        ("tests/export/test_bundle.py::test_one_changed_byte_is_found_and_the_file_is_named",),
        "A file of the bundle with one byte changed is used.",
    ),
    Mutation(
        "labels-in-any-order",
        "keras_transfer/export/bundle.py",
        "if labels != list(bundle.labels):",
        "if set(labels) != set(bundle.labels):",
        ("tests/export/test_bundle.py::test_a_list_that_was_changed_is_one_sentence",),
        "labels.txt in another order than the outputs is accepted.",
    ),
    Mutation(
        "verify-ignores-labels-inside",
        "keras_transfer/export/verify.py",
        "    if attached == bundle.labels:\n",
        "    if len(attached or ()) == len(bundle.labels):\n",
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
        "batch-left-open",
        "keras_transfer/export/strict.py",
        "            tensor.shapeSignature = None\n",
        "            pass\n",
        (STRICT,),
        "LiteRT.js runs none of the exported files.",
    ),
    Mutation(
        "shapes-left-untrue",
        "keras_transfer/export/strict.py",
        "                graph.tensors[index].shape = np.array(shape, np.int32)\n",
        "                pass\n",
        (STRICT.replace("classification-float32", "segmentation-all-integer"),),
        "A microcontroller plans too little memory.",
    ),
    Mutation(
        "reshape-of-one-image",
        "keras_transfer/export/strict.py",
        "[-1, *sizes]",
        "[1, *sizes]",
        (STRICT,),
        "A batch of images cannot be asked any more.",
    ),
    Mutation(
        "free-batch-forgotten",
        "keras_transfer/litert.py",
        "(-1, *sizes[1:]) if free_batch else sizes",
        "sizes",
        (STRICT,),
        "Every evaluation of an exported file asks one image at a time.",
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
        "keras_transfer/decoding.py",
        "6: Image.Transpose.ROTATE_270,",
        "6: Image.Transpose.ROTATE_90,",
        ("tests/test_preprocessing.py::test_exif_orientation",),
        "Photographs of a phone held upright stand on their heads.",
    ),
    Mutation(
        "scaled-picture-beside-its-place",
        "keras_transfer/decoding.py",
        "if self.orientation in (2, 3, 6, 7) else 0.0",
        "if self.orientation in () else 0.0",
        ("tests/test_decoding.py::test_the_place_is_exact_to_a_fraction_of_a_pixel",),
        "Large photos that EXIF turns are shifted by a part of a pixel.",
    ),
    Mutation(
        "kept-pixels-of-another-preprocessing",
        "keras_transfer/data/kept.py",
        "self._pixels.get(sha256) if preprocessing == self.preprocessing else None",
        "self._pixels.get(sha256)",
        ("tests/data/test_data_kept.py::test_another_preprocessing_and_the_whole_image_are_decoded",),
        "A model is shown pixels that were made for another one.",
    ),
    Mutation(
        "older-records-decode-scaled",
        "keras_transfer/preprocessing.py",
        '{"decode": "full", "version": 1}',
        '{"decode": "scaled", "version": 2}',
        ("tests/test_decoding.py::test_an_older_record_keeps_its_version_its_form_and_its_fingerprint",),
        "Older runs and bundles see other pixels than they were trained with.",
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
        "names = tuple(default) or tuple(sorted(found, key=lambda name: (int(name) if whole else 0, name)))",
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
        "if sha256_of(content) == path.stem and len(content) % 32 == 0:",
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
        "keras_transfer/paths.py",
        "except BaseException:  # an interruption too: the earlier folder keeps its place",
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
        "folds-learn-from-what-they-hold-out",
        f"{SIAMESE}/choosing.py",
        "yield np.flatnonzero(~inside), np.flatnonzero(inside)",
        "yield np.arange(len(labels)), np.flatnonzero(inside)",
        (
            f"{SIAMESE_TESTS}/test_siamese_choosing.py::"
            "test_each_pair_is_scored_by_a_head_that_has_learned_from_neither_class",
        ),
        "A head is chosen, and its threshold, on classes that it has learned from.",
    ),
    Mutation(
        "standard-error-of-one-class",
        f"{SIAMESE}/choosing.py",
        "/ np.sqrt(table.shape[1])",
        "/ np.sqrt(len(table))",
        (f"{SIAMESE_TESTS}/test_siamese_choosing.py::test_the_standard_error_counts_classes",),
        "Heads are held to be equal, or different, whatever the number of classes.",
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
    Mutation(
        "a-photo-that-is-read-is-replaced",
        "keras_transfer/outputs.py",
        "            if _identity(path) in self._read:\n",
        "            if _identity(path) in self._read and not self._overwrite:\n",
        ("tests/test_outputs.py::test_what_is_read_is_never_replaced",),
        "`segment images --output images --overwrite` replaces the photos by masks.",
    ),
    Mutation(
        "what-the-user-changed-is-taken-for-ours",
        "keras_transfer/outputs.py",
        "        return wanted is not None and wanted == sha256_of_file(place)\n",
        "        return wanted is not None\n",
        ("tests/test_outputs.py::test_what_the_user_changed_is_the_users",),
        "A mask that was corrected by hand is lost.",
    ),
    Mutation(
        "photos-of-other-formats-do-not-count",
        "keras_transfer/data/folder.py",
        "reason, counted=photo)",
        "reason, counted=False)",
        ("tests/data/test_data_doubts.py::test_photos_of_other_formats_are_said_and_count",),
        "Half of the photos (HEIC) are left out, and --max-skipped does not stop.",
    ),
    Mutation(
        "training-is-a-class",
        "keras_transfer/data/split_names.py",
        '    "training": "train",\n',
        "",
        ("tests/data/test_data_doubts.py::test_splits_under_other_names_are_splits",),
        "A classifier that tells training from test images.",
    ),
    Mutation(
        "learned-images-are-measured",
        "keras_transfer/workflow/evaluate.py",
        '    if not (splits == "test").any():\n',
        "    if len(splits):\n",
        ("tests/workflow/test_evaluate_predict.py::test_photos_that_moved_are_known_by_their_content",),
        "An evaluation of photos that moved flatters the model.",
    ),
    Mutation(
        "a-poor-models-file-may-answer-anything",
        "keras_transfer/export/parity.py",
        "AGREES = 0.9\n",
        "AGREES = 0.0\n",
        ("tests/export/test_export_parity.py::test_a_poor_model_that_answers_otherwise_is_refused",),
        "int8 that agrees on 41 % of the images is delivered.",
    ),
    Mutation(
        "no-loss-is-ever-proven",
        "keras_transfer/export/parity.py",
        "ONE_SIDED = 1.6448536269514722\n",
        "ONE_SIDED = 16.448536269514722\n",
        (
            "tests/export/test_export_parity.py::test_reduced_precision_may_lose_one_point_and_what_the_images_cannot_tell",
        ),
        "A file that loses five points is delivered.",
    ),
    Mutation(
        "photographs-are-turned-the-other-way",
        "keras_transfer/export/encoded.py",
        "((2, 3, 6, 7), (3, 4, 7, 8))",
        "((2, 3, 7, 8), (3, 4, 6, 7))",
        ("tests/export/test_encoded.py::test_photographs_are_turned_by_their_exif_orientation",),
        "`classify_bytes` sees a phone's photos upside down.",
    ),
    Mutation(
        "logits-are-probabilities",
        "keras_transfer/evaluation/probabilities.py",
        "    if low < -0.01 or high > 1.01:\n",
        "    if high > 1e9:\n",
        ("tests/test_troubles.py::test_the_program_says_that",),
        "A phone shows `china 72.5 %, flower -596.7 %`.",
    ),
    Mutation(
        "a-quantized-inputs-range-is-not-looked-at",
        "keras_transfer/workflow/loaded_model.py",
        "    if high - low > 64:\n",
        "    if high - low > 0:\n",
        (
            "tests/workflow/test_evaluate_predict.py"
            "::test_a_quantized_model_of_another_tool_gets_the_range_its_input_tells",
        ),
        "Every pixel of another tool's int8 file saturates.",
    ),
    # ------------------------------------------------------------------ plans and plugins
    Mutation(
        "a-kappa-in-percent",
        "keras_transfer/wording.py",
        'return metric.endswith("accuracy")',
        "return True",
        ("tests/export/test_export_parity.py::test_only_an_accuracy_is_told_in_percent",),
        "A kappa of 0.8 is told as 80 %.",
    ),
    Mutation(
        "a-plan-without-the-backward-pass",
        "keras_transfer/tasks/planning.py",
        "lasts * ((forward + backward) * train",
        "lasts * (forward * train",
        ("tests/workflow/test_trust.py::test_the_plan_is_what_the_run_then_does_and_nothing_is_written",),
        "`--dry-run` says that training everything costs as little as training the head.",
    ),
    Mutation(
        "the-kit-takes-any-weights",
        "keras_transfer/testing/weights.py",
        "not (report.missing or report.mismatched or report.unused)",
        "not report.mismatched",
        ("tests/test_conformance_packages.py::test_wrong_weights_fail_their_check_with_one_sentence",),
        "A package whose weights leave a layer random passes the kit.",
    ),
)
