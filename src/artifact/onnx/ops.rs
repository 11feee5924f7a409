//! The operators a policy may use.
//!
//! Owns the allow-list: name, first operator set, how many inputs and outputs, which attributes. Refuses everything else;
//! what is not deterministic, keeps state, looks across rows by nature, or has no use for a flat observation is left out.
//! `graph` asks it whether a node may stand, `shape` which rule gives its result.

/// Which rule gives shape, type and cost of an operator's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Element by element, same type and shape as the first input.
    Unary,
    /// Element by element, truth values.
    Test,
    /// Element by element over broadcast inputs of one type.
    Broadcast,
    /// The same, truth values.
    Compare,
    /// Choice by a truth value.
    Where,
    /// `Clip`.
    Clip,
    /// `Gemm`.
    Gemm,
    /// `MatMul`.
    MatMul,
    /// Normalisation along one axis or from one axis on.
    Softmax,
    /// `LayerNormalization`, `RMSNormalization`.
    LayerNorm,
    /// `BatchNormalization` with frozen statistics.
    BatchNorm,
    /// Normalisation by a norm along one axis.
    AlongAxis,
    /// `CumSum`.
    CumSum,
    /// Reductions over axes.
    Reduce,
    /// `ArgMax`, `ArgMin`.
    ArgReduce,
    /// `Shape`.
    Shape,
    /// `Reshape`.
    Reshape,
    /// `Flatten`.
    Flatten,
    /// `Transpose`.
    Transpose,
    /// `Squeeze`.
    Squeeze,
    /// `Unsqueeze`.
    Unsqueeze,
    /// `Concat`.
    Concat,
    /// `Split`.
    Split,
    /// `Slice`.
    Slice,
    /// `Gather`.
    Gather,
    /// `Expand`.
    Expand,
    /// `Tile`.
    Tile,
    /// `Pad` with a constant.
    Pad,
    /// `ConstantOfShape`.
    Fill,
    /// `Range` over constants.
    Range,
    /// `Cast`.
    Cast,
    /// `CastLike`.
    CastLike,
    /// `Dropout` when it does nothing.
    Dropout,
}

/// One line of the allow-list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operator {
    /// Its name in the standard domain.
    pub name: &'static str,
    /// The operator set that introduced it.
    pub since: i64,
    /// Fewest and most inputs.
    pub inputs: (usize, usize),
    /// Most outputs.
    pub outputs: usize,
    /// Its attributes.
    pub attributes: &'static [&'static str],
    /// How its result follows.
    pub rule: Rule,
}

const fn op(
    name: &'static str,
    since: i64,
    inputs: (usize, usize),
    attributes: &'static [&'static str],
    rule: Rule,
) -> Operator {
    Operator { name, since, inputs, outputs: 1, attributes, rule }
}

const REDUCE: &[&str] = &["axes", "keepdims", "noop_with_empty_axes"];
const MANY: usize = super::super::limits::ONNX_PORTS;

/// The allow-list, sorted by name.
pub(crate) const OPERATORS: &[Operator] = &[
    op("Abs", 1, (1, 1), &[], Rule::Unary),
    op("Acos", 7, (1, 1), &[], Rule::Unary),
    op("Acosh", 9, (1, 1), &[], Rule::Unary),
    op("Add", 1, (2, 2), &[], Rule::Broadcast),
    op("And", 1, (2, 2), &[], Rule::Compare),
    op("ArgMax", 1, (1, 1), &["axis", "keepdims", "select_last_index"], Rule::ArgReduce),
    op("ArgMin", 1, (1, 1), &["axis", "keepdims", "select_last_index"], Rule::ArgReduce),
    op("Asin", 7, (1, 1), &[], Rule::Unary),
    op("Asinh", 9, (1, 1), &[], Rule::Unary),
    op("Atan", 7, (1, 1), &[], Rule::Unary),
    op("Atanh", 9, (1, 1), &[], Rule::Unary),
    op("BatchNormalization", 1, (5, 5), &["epsilon", "momentum", "training_mode"], Rule::BatchNorm),
    op("Cast", 1, (1, 1), &["to", "saturate", "round_mode"], Rule::Cast),
    op("CastLike", 15, (2, 2), &["saturate", "round_mode"], Rule::CastLike),
    op("Ceil", 1, (1, 1), &[], Rule::Unary),
    op("Celu", 12, (1, 1), &["alpha"], Rule::Unary),
    op("Clip", 1, (1, 3), &[], Rule::Clip),
    op("Concat", 1, (1, MANY), &["axis"], Rule::Concat),
    op("ConstantOfShape", 9, (1, 1), &["value"], Rule::Fill),
    op("Cos", 7, (1, 1), &[], Rule::Unary),
    op("Cosh", 9, (1, 1), &[], Rule::Unary),
    op("CumSum", 11, (2, 2), &["exclusive", "reverse"], Rule::CumSum),
    op("Div", 1, (2, 2), &[], Rule::Broadcast),
    op("Dropout", 1, (1, 3), &["ratio", "seed"], Rule::Dropout),
    op("Elu", 1, (1, 1), &["alpha"], Rule::Unary),
    op("Equal", 1, (2, 2), &[], Rule::Compare),
    op("Erf", 9, (1, 1), &[], Rule::Unary),
    op("Exp", 1, (1, 1), &[], Rule::Unary),
    op("Expand", 8, (2, 2), &[], Rule::Expand),
    op("Flatten", 1, (1, 1), &["axis"], Rule::Flatten),
    op("Floor", 1, (1, 1), &[], Rule::Unary),
    op("Gather", 1, (2, 2), &["axis"], Rule::Gather),
    op("Gelu", 20, (1, 1), &["approximate"], Rule::Unary),
    op("Gemm", 1, (2, 3), &["alpha", "beta", "transA", "transB"], Rule::Gemm),
    op("Greater", 1, (2, 2), &[], Rule::Compare),
    op("GreaterOrEqual", 12, (2, 2), &[], Rule::Compare),
    op("HardSigmoid", 1, (1, 1), &["alpha", "beta"], Rule::Unary),
    op("HardSwish", 14, (1, 1), &[], Rule::Unary),
    op("Hardmax", 1, (1, 1), &["axis"], Rule::Softmax),
    op("Identity", 1, (1, 1), &[], Rule::Unary),
    op("IsInf", 10, (1, 1), &["detect_negative", "detect_positive"], Rule::Test),
    op("IsNaN", 9, (1, 1), &[], Rule::Test),
    Operator {
        outputs: 1,
        ..op("LayerNormalization", 17, (2, 3), &["axis", "epsilon", "stash_type"], Rule::LayerNorm)
    },
    op("LeakyRelu", 1, (1, 1), &["alpha"], Rule::Unary),
    op("Less", 1, (2, 2), &[], Rule::Compare),
    op("LessOrEqual", 12, (2, 2), &[], Rule::Compare),
    op("Log", 1, (1, 1), &[], Rule::Unary),
    op("LogSoftmax", 1, (1, 1), &["axis"], Rule::Softmax),
    op("LpNormalization", 1, (1, 1), &["axis", "p"], Rule::AlongAxis),
    op("MatMul", 1, (2, 2), &[], Rule::MatMul),
    op("Max", 1, (1, MANY), &[], Rule::Broadcast),
    op("Mean", 1, (1, MANY), &[], Rule::Broadcast),
    op("Min", 1, (1, MANY), &[], Rule::Broadcast),
    op("Mish", 18, (1, 1), &[], Rule::Unary),
    op("Mod", 10, (2, 2), &["fmod"], Rule::Broadcast),
    op("Mul", 1, (2, 2), &[], Rule::Broadcast),
    op("Neg", 1, (1, 1), &[], Rule::Unary),
    op("Not", 1, (1, 1), &[], Rule::Unary),
    op("Or", 1, (2, 2), &[], Rule::Compare),
    op("PRelu", 1, (2, 2), &[], Rule::Broadcast),
    op("Pad", 1, (2, 4), &["mode"], Rule::Pad),
    op("Pow", 1, (2, 2), &[], Rule::Broadcast),
    op("RMSNormalization", 23, (2, 2), &["axis", "epsilon", "stash_type"], Rule::LayerNorm),
    op("Range", 11, (3, 3), &[], Rule::Range),
    op("Reciprocal", 1, (1, 1), &[], Rule::Unary),
    op("ReduceL1", 1, (1, 2), REDUCE, Rule::Reduce),
    op("ReduceL2", 1, (1, 2), REDUCE, Rule::Reduce),
    op("ReduceLogSum", 1, (1, 2), REDUCE, Rule::Reduce),
    op("ReduceLogSumExp", 1, (1, 2), REDUCE, Rule::Reduce),
    op("ReduceMax", 1, (1, 2), REDUCE, Rule::Reduce),
    op("ReduceMean", 1, (1, 2), REDUCE, Rule::Reduce),
    op("ReduceMin", 1, (1, 2), REDUCE, Rule::Reduce),
    op("ReduceProd", 1, (1, 2), REDUCE, Rule::Reduce),
    op("ReduceSum", 1, (1, 2), REDUCE, Rule::Reduce),
    op("ReduceSumSquare", 1, (1, 2), REDUCE, Rule::Reduce),
    op("Relu", 1, (1, 1), &[], Rule::Unary),
    op("Reshape", 5, (2, 2), &["allowzero"], Rule::Reshape),
    op("Round", 11, (1, 1), &[], Rule::Unary),
    op("Selu", 1, (1, 1), &["alpha", "gamma"], Rule::Unary),
    op("Shape", 1, (1, 1), &["start", "end"], Rule::Shape),
    op("Sigmoid", 1, (1, 1), &[], Rule::Unary),
    op("Sign", 9, (1, 1), &[], Rule::Unary),
    op("Sin", 7, (1, 1), &[], Rule::Unary),
    op("Sinh", 9, (1, 1), &[], Rule::Unary),
    op("Slice", 1, (3, 5), &[], Rule::Slice),
    op("Softmax", 1, (1, 1), &["axis"], Rule::Softmax),
    op("Softplus", 1, (1, 1), &[], Rule::Unary),
    op("Softsign", 1, (1, 1), &[], Rule::Unary),
    Operator { outputs: MANY, ..op("Split", 1, (1, 2), &["axis", "split", "num_outputs"], Rule::Split) },
    op("Sqrt", 1, (1, 1), &[], Rule::Unary),
    op("Squeeze", 1, (1, 2), &["axes"], Rule::Squeeze),
    op("Sub", 1, (2, 2), &[], Rule::Broadcast),
    op("Sum", 1, (1, MANY), &[], Rule::Broadcast),
    op("Tan", 7, (1, 1), &[], Rule::Unary),
    op("Tanh", 1, (1, 1), &[], Rule::Unary),
    op("ThresholdedRelu", 10, (1, 1), &["alpha"], Rule::Unary),
    op("Tile", 6, (2, 2), &[], Rule::Tile),
    op("Transpose", 1, (1, 1), &["perm"], Rule::Transpose),
    op("Unsqueeze", 1, (1, 2), &["axes"], Rule::Unsqueeze),
    op("Where", 9, (3, 3), &[], Rule::Where),
    op("Xor", 1, (2, 2), &[], Rule::Compare),
];

/// The operator of this name, if policies may use it.
pub(crate) fn find(name: &str) -> Option<&'static Operator> {
    OPERATORS.binary_search_by(|operator| operator.name.cmp(name)).ok().map(|at| &OPERATORS[at])
}

/// Names of all allowed operators, for the handbook and the words of a refusal.
pub fn allowed() -> impl Iterator<Item = &'static str> {
    OPERATORS.iter().map(|operator| operator.name)
}

/// Operators that look across the rows of a batch by nature: refused with words of their own.
pub(crate) const ACROSS_ROWS: &[&str] = &["DynamicQuantizeLinear", "MeanVarianceNormalization", "NonZero", "Compress"];
/// Operators that hold graphs: refused with words of their own.
pub(crate) const CONTROL_FLOW: &[&str] = &["If", "Loop", "Scan", "SequenceMap"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_for_its_search() {
        assert!(OPERATORS.is_sorted_by(|a, b| a.name < b.name));
        assert!(find("Tanh").is_some() && find("Loop").is_none() && find("").is_none());
    }
}
