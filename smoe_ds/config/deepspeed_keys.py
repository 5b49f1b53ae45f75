"""What DeepSpeed 0.19.8 reads at its top level (and in the sections used here) but a run here must not set, and why.

DeepSpeed silently ignores a misspelt top-level key. Here every key it knows is either a field of
:class:`smoe_ds.config.deepspeed_sections.DeepSpeedSections` or an entry below; anything else is refused with the
nearest known one. A test holds both lists against the installed DeepSpeed.
"""

from __future__ import annotations

_DERIVED = "is derived: train_batch_size micro-batches over the number of ranks; remove it"
_OWN_CHECKPOINTS = (
    "has no effect: checkpoints are written by smoe_ds (smoe.train.checkpoint_every, keep_last); remove it"
)
_OWN_STREAM = "has no effect: batches come from smoe_ds's stream (section smoe.data); remove it"
_STAGE_3 = "works only in ZeRO stage 3 and would be ignored; remove it"
_NVME = "works only for NVMe offload in ZeRO stage 3 and would be ignored; remove it"
_REMOVED = "was removed from DeepSpeed; remove it"
_UNTESTED_WITH_EXPERTS = "has not been tested with experts; remove it"
_MASTER_WEIGHTS = "would train without the fp32 master weights that checkpoints hold; remove it"
_NO_PARALLEL_SHARDS = (
    "splits layers over ranks, which these models do not support; use more data-parallel ranks and smoe.moe.ep_size"
)

REFUSED: dict[str, str] = {
    "scheduler": "would conflict with the schedule of smoe_ds; remove it and set smoe.train.warmup_steps and "
    "warmup_init_lr (inverse square root decay from optimizer.params.lr)",
    "gradient_accumulation_steps": _DERIVED,
    "tensorboard": "would write a second, almost empty log; remove it: the TensorBoard log is in smoe.train.output_dir",
    "comet": "would copy an API key into the run folder; remove it and use TensorBoard, csv_monitor or wandb",
    "activation_checkpointing": "has no effect: the model does not use it; remove it",
    "aio": "has no effect below ZeRO stage 3; remove it",
    "autotuning": "would restart the run with other batch sizes; remove it and choose smoe.data.max_tokens by hand",
    "bfloat16": 'is an old name, which "bf16" overrides silently; write "bf16"',
    "checkpoint": _OWN_CHECKPOINTS,
    "compile": "has no effect: the engine is not compiled; remove it",
    "data_efficiency": _OWN_STREAM,
    "data_parallel_size": _NO_PARALLEL_SHARDS,
    "data_types": "changes the precision in which gradients are added, which " + _UNTESTED_WITH_EXPERTS,
    "dataloader_drop_last": _OWN_STREAM,
    "datastates_ckpt": _OWN_CHECKPOINTS,
    "disable_allgather": "has no effect in DeepSpeed 0.19; remove it",
    "expert_parallel": "is DeepSpeed's AutoEP, which does not know stratified layers; use smoe.moe.ep_size",
    "gradient_allreduce_op": "would, with anything but the mean, scale the token-weighted loss twice; remove it",
    "gradient_predivide_factor": _UNTESTED_WITH_EXPERTS,
    "hybrid_engine": "is for generation inside training, which does not happen here; remove it",
    "managed_gradient_accumulation": "would expect the trainer to set the accumulation boundaries; remove it",
    "pipeline": _NO_PARALLEL_SHARDS,
    "prescale_gradients": _UNTESTED_WITH_EXPERTS,
    "seq_parallel_communication_data_type": "has no effect without sequence parallelism; remove it",
    "sequence_parallel_size": _NO_PARALLEL_SHARDS,
    "tensor_parallel": _NO_PARALLEL_SHARDS,
    "torch_autocast": "would cast the gate, which has to stay in fp32; use bf16 or fp16",
    "use_data_before_expert_parallelism": "would change which ranks share experts; remove it and set smoe.moe.ep_size",
    "vocabulary_size": "has no effect: the size comes from the tokenizer of smoe.data.path; remove it",
    "weight_quantization": "is for inference; remove it",
    "zero_allow_untested_optimizer": "has no effect: optimizers are Adam and AdamW, which ZeRO supports; remove it",
    "zero_force_ds_cpu_optimizer": "has no effect: DeepSpeed makes the optimizer itself; remove it",
    "amp": _REMOVED + "; use bf16 or fp16",
    "compression_training": _REMOVED,
    "curriculum_learning": _REMOVED,
    "eigenvalue": _REMOVED,
    "elasticity": _REMOVED + "; a checkpoint resumes on another number of ranks without it",
    "graph_harvesting": _REMOVED,
    "nebula": _REMOVED,
    "progressive_layer_drop": _REMOVED,
    "quantize_training": _REMOVED,
    "sparse_attention": _REMOVED,
    "sparse_gradients": _REMOVED,
    # optimizer
    "optimizer.legacy_fusion": "works only in fp16 without ZeRO, which is refused; remove it",
    "optimizer.params.max_grad_norm": 'is refused by DeepSpeed; write "gradient_clipping" at the top level',
    "optimizer.params.bias_correction": "has to stay on for Adam as published; remove it",
    "optimizer.params.amsgrad": "is not supported by DeepSpeed's Adam; remove it",
    "optimizer.params.fp32_optimizer_states": "has to stay on: checkpoints hold Adam's moments in fp32; remove it",
    "optimizer.params.foreach": "only chooses an implementation inside PyTorch's Adam; remove it",
    # ZeRO
    "zero_optimization.cpu_offload": 'is deprecated; write "offload_optimizer": {"device": "cpu"}',
    "zero_optimization.cpu_offload_param": _STAGE_3,
    "zero_optimization.cpu_offload_use_pin_memory": 'is deprecated; write "offload_optimizer": {"pin_memory": ...}',
    "zero_optimization.offload_param": _STAGE_3,
    "zero_optimization.compute_grad_norm": "has to stay on: the gradient norm is logged at every step; remove it",
    "zero_optimization.elastic_checkpoint": _OWN_CHECKPOINTS,
    "zero_optimization.load_from_fp32_weights": _OWN_CHECKPOINTS,
    "zero_optimization.enable_sanity_checks": "is for debugging DeepSpeed itself; remove it",
    "zero_optimization.ignore_unused_parameters": "has to stay on: an expert without tokens has no gradient; remove it",
    "zero_optimization.legacy_stage1": "has no effect in DeepSpeed 0.19; remove it",
    "zero_optimization.parameter_alignment": _UNTESTED_WITH_EXPERTS,
    "zero_optimization.use_multi_rank_bucket_allreduce": _UNTESTED_WITH_EXPERTS,
    "zero_optimization.zenflow": _UNTESTED_WITH_EXPERTS,
    "zero_optimization.allgather_sequential": _STAGE_3,
    "zero_optimization.gather_16bit_weights_on_model_save": _STAGE_3,
    "zero_optimization.leaf_module": _STAGE_3,
    "zero_optimization.log_trace_cache_warnings": _STAGE_3,
    "zero_optimization.max_live_parameters": _STAGE_3,
    "zero_optimization.max_reuse_distance": _STAGE_3,
    "zero_optimization.memory_efficient_linear": _STAGE_3,
    "zero_optimization.model_persistence_threshold": _STAGE_3,
    "zero_optimization.module_granularity_threshold": _STAGE_3,
    "zero_optimization.override_module_apply": _STAGE_3,
    "zero_optimization.param_persistence_threshold": _STAGE_3,
    "zero_optimization.pipeline_loading_checkpoint": _STAGE_3,
    "zero_optimization.prefetch_bucket_size": _STAGE_3,
    "zero_optimization.save_muon_momentum_buffer_in_memory": _STAGE_3,
    "zero_optimization.stage3_allgather_sequential": _STAGE_3,
    "zero_optimization.stage3_gather_16bit_weights_on_model_save": _STAGE_3,
    "zero_optimization.stage3_gather_fp16_weights_on_model_save": _STAGE_3,
    "zero_optimization.stage3_max_live_parameters": _STAGE_3,
    "zero_optimization.stage3_max_reuse_distance": _STAGE_3,
    "zero_optimization.stage3_model_persistence_threshold": _STAGE_3,
    "zero_optimization.stage3_module_granularity_threshold": _STAGE_3,
    "zero_optimization.stage3_param_persistence_threshold": _STAGE_3,
    "zero_optimization.stage3_prefetch_bucket_size": _STAGE_3,
    "zero_optimization.stage3_use_all_reduce_for_fetch_params": _STAGE_3,
    "zero_optimization.sub_group_size": _STAGE_3,
    "zero_optimization.use_all_reduce_for_fetch_params": _STAGE_3,
    "zero_optimization.zero_hpz_partition_size": _STAGE_3,
    "zero_optimization.zero_quantized_gradients": _STAGE_3,
    "zero_optimization.zero_quantized_nontrainable_weights": _STAGE_3,
    "zero_optimization.zero_quantized_weights": _STAGE_3,
    "zero_optimization.mics_shard_size": _REMOVED,
    "zero_optimization.mics_hierarchical_params_gather": _REMOVED,
    "zero_optimization.zeropp_loco_param": _REMOVED,
    "zero_optimization.offload_optimizer.buffer_count": _NVME,
    "zero_optimization.offload_optimizer.cpuadam_cores_perc": _STAGE_3,
    "zero_optimization.offload_optimizer.fast_init": _NVME,
    "zero_optimization.offload_optimizer.nvme_path": _NVME,
    "zero_optimization.offload_optimizer.pipeline_read": _NVME,
    "zero_optimization.offload_optimizer.pipeline_write": _NVME,
    "zero_optimization.offload_optimizer.ratio": _STAGE_3,
    "zero_optimization.offload_optimizer.super_offload": _STAGE_3,
    # precision
    "fp16.auto_cast": "has no effect: inputs are token numbers; remove it",
    "fp16.fp16_master_weights_and_grads": _MASTER_WEIGHTS,
    "bf16.immediate_grad_update": "works only in an optimizer that is not used here; remove it",
    "bf16.bf16_master_weights_and_grads": _MASTER_WEIGHTS,
    "bf16.bf16_optimizer_states": "has to stay off: checkpoints hold Adam's moments in fp32; remove it",
}
