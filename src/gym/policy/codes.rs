//! The codes of everything that can go wrong between an ONNX file and its actions.

use crate::fault::{Class, Code};

/// The file cannot be read as ONNX, or the backend of record refuses it.
pub const UNREADABLE: Code = Code::new(
    Class::Miner,
    "policy_unreadable",
    "the policy's ONNX file cannot be loaded",
    "run `waag check` on the bundle; it loads the file with the same backend",
);
/// The graph's input is not the observation.
pub const INPUT: Code = Code::new(
    Class::Miner,
    "policy_input",
    "the policy's input does not take this environment's observations",
    "export one float32 input called `observation` of shape [N, observation values]",
);
/// The graph's output is not an action.
pub const OUTPUT: Code = Code::new(
    Class::Miner,
    "policy_output",
    "the policy's output does not give this environment's actions",
    "export one float32 output of shape [N, scores or action values], or the integer number of the choice",
);
/// The answer of a run has another shape or type than was declared.
pub const OUTPUT_SHAPE: Code = Code::new(
    Class::Miner,
    "policy_output_shape",
    "the policy answered with another number or type of values than its environment takes",
    "make the graph keep the first dimension of its input",
);
/// NaN, or an infinite continuous action.
pub const NOT_FINITE: Code = Code::new(
    Class::Miner,
    "policy_action_not_finite",
    "the policy answered with a number that is no action",
    "look for overflow or a division by zero in the network; the fault names seed and step",
);
/// A choice that does not exist.
pub const OUT_OF_RANGE: Code = Code::new(
    Class::Miner,
    "policy_action_out_of_range",
    "the policy chose an action that does not exist",
    "an integer output must lie between 0 and the number of choices less one",
);
/// More arithmetic a step than allowed, counted from the file alone.
pub const TOO_COSTLY: Code = Code::new(
    Class::Miner,
    "policy_too_costly",
    "the policy costs more a step than the limit",
    "make the network smaller, with fewer nodes; the count depends on the file alone",
);
/// It took far more processor time than any file of that cost should.
pub const TOO_SLOW: Code = Code::new(
    Class::Miner,
    "policy_too_slow",
    "the policy took more processor time than its rollouts may",
    "use plain layers (Gemm, Tanh, Relu), which run fused; `waag check` says whether a policy does",
);
/// The backend failed in mid-run.
pub const RUN_FAILED: Code = Code::new(
    Class::Miner,
    "policy_run_failed",
    "the policy's graph failed while it ran",
    "run `waag check` on the bundle; it runs the graph with the same backend",
);
/// The backend died of the file, twice in the same way.
pub const CRASHES: Code = Code::new(
    Class::Miner,
    "policy_crashes_backend",
    "the ONNX backend crashed on the policy",
    "run `waag check` on the bundle; use plain layers (Gemm, Tanh, Relu), which need no backend",
);
/// The configured library cannot be used.
pub const BACKEND_UNAVAILABLE: Code = Code::new(
    Class::Operator,
    "onnx_backend_unavailable",
    "the configured ONNX backend cannot be loaded",
    "point the setting at a libonnxruntime of version 1.24 or later, or use the embedded backend",
);
/// A process uses one backend for its whole life.
pub const BACKEND_FIXED: Code = Code::new(
    Class::Operator,
    "onnx_backend_fixed",
    "this process already uses another ONNX backend",
    "give all profiles of one appliance the same backend of record",
);
