//! One rule an operator: the shapes, types, followed integers and cost of what it makes.
//!
//! Owns the operators' meaning as far as shapes go, for every supported operator set. Refuses an axis that would mix
//! rows and a shape that is not known before the model runs. Only `shape` calls it.

use super::{
    graph::{Attribute, Graph, Node},
    ops::Rule,
    proto::elem,
    shape::{Dim, Known, Made, Refusal, Value, elements},
    tensor::{is_float, width},
};
use crate::artifact::{codes, limits};

/// Applies the node's rule.
pub(super) fn apply(node: &Node, inputs: &[Option<&Value>], graph: &Graph) -> Result<Made, Refusal> {
    let call = Call { node, inputs, opset: graph.opset };
    match node.operator.rule {
        Rule::Unary => call.unary(),
        Rule::Test => Ok(call.one(Value::of(elem::BOOL, call.x()?.shape.clone()))),
        Rule::Broadcast => call.broadcast_op(None),
        Rule::Compare => call.broadcast_op(Some(elem::BOOL)),
        Rule::Where => call.choose(),
        Rule::Clip => call.clip(),
        Rule::Gemm => call.gemm(),
        Rule::MatMul => call.matmul(),
        Rule::Softmax => call.softmax(),
        Rule::LayerNorm => call.layer_norm(),
        Rule::BatchNorm => call.batch_norm(),
        Rule::AlongAxis => call.along_axis(call.int("axis", -1)?),
        Rule::CumSum => call.along_axis(call.only_int(1, "axis")?),
        Rule::Reduce => call.reduce(),
        Rule::ArgReduce => call.arg_reduce(),
        Rule::Shape => call.shape_of(),
        Rule::Reshape => call.reshape(),
        Rule::Flatten => call.flatten(),
        Rule::Transpose => call.transpose(),
        Rule::Squeeze => call.squeeze(),
        Rule::Unsqueeze => call.unsqueeze(),
        Rule::Concat => call.concat(),
        Rule::Split => call.split(),
        Rule::Slice => call.slice(),
        Rule::Gather => call.gather(),
        Rule::Expand => call.expand(),
        Rule::Tile => call.tile(),
        Rule::Pad => call.pad(),
        Rule::Fill => call.fill(),
        Rule::Range => call.range(),
        Rule::Cast => call.cast(),
        Rule::CastLike => {
            let like = call.input(1)?.elem;
            Ok(call.one(Value::of(like, call.x()?.shape.clone())))
        }
        Rule::Dropout => call.dropout(),
    }
}

pub(super) fn shape_refusal<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err((codes::ONNX_SHAPE, why.into()))
}

pub(super) fn batch_refusal<T>(why: &str) -> Result<T, Refusal> {
    Err((codes::ONNX_BATCH, why.to_owned()))
}

pub(super) fn attribute_refusal<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err((codes::ONNX_ATTRIBUTE, why.into()))
}

/// One node with what is known of its inputs.
pub(super) struct Call<'a> {
    pub(super) node: &'a Node,
    pub(super) inputs: &'a [Option<&'a Value>],
    pub(super) opset: i64,
}

impl Call<'_> {
    pub(super) fn input(&self, at: usize) -> Result<&Value, Refusal> {
        match self.optional(at) {
            Some(value) => Ok(value),
            None => attribute_refusal(format!("input {at} is missing")),
        }
    }

    pub(super) fn optional(&self, at: usize) -> Option<&Value> {
        self.inputs.get(at).copied().flatten()
    }

    pub(super) fn x(&self) -> Result<&Value, Refusal> {
        self.input(0)
    }

    pub(super) fn int(&self, name: &str, default: i64) -> Result<i64, Refusal> {
        match self.node.attributes.get(name) {
            None => Ok(default),
            Some(Attribute::Int(value)) => Ok(*value),
            Some(_) => attribute_refusal(format!("the attribute `{name}` is not an integer")),
        }
    }

    pub(super) fn ints(&self, name: &str) -> Result<Option<Vec<i64>>, Refusal> {
        match self.node.attributes.get(name) {
            None => Ok(None),
            Some(Attribute::Ints(values)) if values.len() <= limits::ONNX_PORTS => Ok(Some(values.clone())),
            Some(_) => attribute_refusal(format!("the attribute `{name}` is not a short list of integers")),
        }
    }

    /// Integers that must be known: an attribute in old operator sets, a constant input in new ones.
    pub(super) fn known(&self, at: usize, what: &str) -> Result<Option<Vec<i64>>, Refusal> {
        let Some(value) = self.optional(at) else { return Ok(None) };
        match value.ints() {
            Some(ints) => Ok(Some(ints)),
            None => shape_refusal(format!("`{what}` is not known before it runs")),
        }
    }

    /// Integers that moved from an attribute to an input: only the place of this operator set may be used.
    pub(super) fn moved(&self, name: &str, since: i64) -> Result<Option<Vec<i64>>, Refusal> {
        let is_input = self.opset >= since;
        let in_wrong_place =
            if is_input { self.node.attributes.contains_key(name) } else { self.optional(1).is_some() };
        if in_wrong_place {
            return attribute_refusal(format!("`{name}` stands where operator set {} does not have it", self.opset));
        }
        if is_input { self.known(1, name) } else { self.ints(name) }
    }

    pub(super) fn only_int(&self, at: usize, what: &str) -> Result<i64, Refusal> {
        match self.known(at, what)?.as_deref() {
            Some([one]) => Ok(*one),
            _ => attribute_refusal(format!("`{what}` is not one integer")),
        }
    }

    /// A result that costs one operation an element.
    pub(super) fn one(&self, value: Value) -> Made {
        let work = value.elements();
        (vec![value], work)
    }

    fn unary(&self) -> Result<Made, Refusal> {
        let mut value = self.x()?.clone();
        match (self.node.op(), &mut value.data) {
            ("Identity", _) => {}
            ("Neg", Some(data)) if data.iter().all(|known| matches!(known, Known::Int(_))) => {
                for known in data {
                    if let Known::Int(int) = known {
                        *int = int.wrapping_neg();
                    }
                }
            }
            _ => value.data = None,
        }
        Ok(self.one(value))
    }

    fn broadcast_op(&self, made: Option<i32>) -> Result<Made, Refusal> {
        let first = self.x()?;
        let mut shape = first.shape.clone();
        for at in 1..self.inputs.len() {
            let other = self.input(at)?;
            // `Pow` alone may mix types; everything else of one call is of one type.
            if other.elem != first.elem && self.node.op() != "Pow" {
                return attribute_refusal(format!("mixes element types {} and {}", first.elem, other.elem));
            }
            shape = broadcast(&shape, &other.shape)?;
        }
        if self.node.op() == "PRelu" && shape != first.shape {
            return shape_refusal("the slope is wider than the input");
        }
        let mut value = Value::of(made.unwrap_or(first.elem), shape);
        if let [Some(a), Some(b)] = self.inputs {
            value.data = folded(self.node.op(), a, b).filter(|data| data.len() as u64 == value.elements());
        }
        let inputs = self.inputs.len().max(2) as u64 - 1;
        let work = value.elements().saturating_mul(inputs);
        Ok((vec![value], work))
    }

    fn choose(&self) -> Result<Made, Refusal> {
        let (condition, yes, no) = (self.x()?, self.input(1)?, self.input(2)?);
        if condition.elem != elem::BOOL || yes.elem != no.elem {
            return attribute_refusal("mixes element types");
        }
        let shape = broadcast(&broadcast(&condition.shape, &yes.shape)?, &no.shape)?;
        let mut value = Value::of(yes.elem, shape);
        if let (Some(condition), Some(yes), Some(no)) = (condition.ints(), &yes.data, &no.data) {
            let len = condition.len().max(yes.len()).max(no.len());
            let pick = |list: &[Known], at: usize| list.get(if list.len() == 1 { 0 } else { at }).copied();
            let chosen = (0..len).map(|at| {
                let holds = *condition.get(if condition.len() == 1 { 0 } else { at })? != 0;
                pick(if holds { yes } else { no }, at)
            });
            value.data = chosen.collect::<Option<Vec<_>>>().filter(|data| data.len() as u64 == value.elements());
        }
        Ok(self.one(value))
    }

    fn clip(&self) -> Result<Made, Refusal> {
        for at in 1..self.inputs.len() {
            if let Some(bound) = self.optional(at)
                && (bound.elements() != 1 || !bound.shape.is_empty() || bound.elem != self.x()?.elem)
            {
                return attribute_refusal("a bound is not one number of the input's type");
            }
        }
        Ok(self.one(Value::of(self.x()?.elem, self.x()?.shape.clone())))
    }

    fn gemm(&self) -> Result<Made, Refusal> {
        let (a, b) = (self.x()?, self.input(1)?);
        let ([a0, a1], [b0, b1]) = (&a.shape[..], &b.shape[..]) else {
            return shape_refusal("takes matrices");
        };
        let (rows, inner) = if self.int("transA", 0)? == 0 { (*a0, *a1) } else { (*a1, *a0) };
        let (inner_too, columns) = if self.int("transB", 0)? == 0 { (*b0, *b1) } else { (*b1, *b0) };
        let depth = contracted(inner, inner_too)?;
        let shape = vec![rows, columns];
        if a.elem != b.elem || !is_float(a.elem) {
            return attribute_refusal("takes floats of one type");
        }
        if let Some(c) = self.optional(2)
            && (c.elem != a.elem || broadcast(&shape, &c.shape)? != shape)
        {
            return shape_refusal("the bias is wider than the product");
        }
        let work = elements(&shape).saturating_mul(depth);
        Ok((vec![Value::of(a.elem, shape)], work))
    }

    fn matmul(&self) -> Result<Made, Refusal> {
        let (a, b) = (self.x()?, self.input(1)?);
        if a.elem != b.elem || !is_float(a.elem) {
            return attribute_refusal("takes floats of one type");
        }
        if a.shape.is_empty() || b.shape.is_empty() {
            return shape_refusal("takes no scalars");
        }
        let (a_outer, a_rows, inner) = match &a.shape[..] {
            [inner] => (&[][..], None, *inner),
            [outer @ .., rows, inner] => (outer, Some(*rows), *inner),
            [] => return shape_refusal("takes no scalars"),
        };
        let (b_outer, inner_too, columns) = match &b.shape[..] {
            [inner] => (&[][..], *inner, None),
            [outer @ .., inner, columns] => (outer, *inner, Some(*columns)),
            [] => return shape_refusal("takes no scalars"),
        };
        let depth = contracted(inner, inner_too)?;
        let mut shape = broadcast(a_outer, b_outer)?;
        shape.extend(a_rows);
        shape.extend(columns);
        let work = elements(&shape).saturating_mul(depth);
        Ok((vec![Value::of(a.elem, shape)], work))
    }

    fn softmax(&self) -> Result<Made, Refusal> {
        let x = self.x()?;
        let modern = self.opset >= 13;
        let axis = axis_of(self.int("axis", if modern { -1 } else { 1 })?, x.shape.len())?;
        // Before operator set 13 everything from the axis on is one row.
        let mixes = x.batch_axis().is_some_and(|batch| if modern { batch == axis } else { batch >= axis });
        if mixes {
            return batch_refusal("normalises over the rows of the batch");
        }
        let value = Value::of(x.elem, x.shape.clone());
        let work = value.elements().saturating_mul(3);
        Ok((vec![value], work))
    }

    fn layer_norm(&self) -> Result<Made, Refusal> {
        let x = self.x()?;
        let axis = axis_of(self.int("axis", -1)?, x.shape.len())?;
        if x.batch_axis().is_some_and(|batch| batch >= axis) {
            return batch_refusal("normalises over the rows of the batch");
        }
        for at in 1..self.inputs.len() {
            if let Some(scale) = self.optional(at)
                && broadcast(&x.shape[axis..], &scale.shape)? != x.shape[axis..]
            {
                return shape_refusal("the scale is wider than the input");
            }
        }
        let value = Value::of(x.elem, x.shape.clone());
        let work = value.elements().saturating_mul(4);
        Ok((vec![value], work))
    }

    fn batch_norm(&self) -> Result<Made, Refusal> {
        let x = self.x()?;
        if self.int("training_mode", 0)? != 0 {
            return batch_refusal("normalises by the batch's own statistics");
        }
        let [Dim::Batch, channels, ..] = x.shape[..] else {
            return shape_refusal("takes rows with channels");
        };
        if (1..5).any(|at| self.optional(at).is_none_or(|value| value.shape != [channels])) {
            return shape_refusal("the statistics do not match the channels");
        }
        let value = Value::of(x.elem, x.shape.clone());
        let work = value.elements().saturating_mul(2);
        Ok((vec![value], work))
    }

    fn along_axis(&self, axis: i64) -> Result<Made, Refusal> {
        let x = self.x()?;
        if x.batch_axis() == Some(axis_of(axis, x.shape.len())?) {
            return batch_refusal("runs along the rows of the batch");
        }
        let value = Value::of(x.elem, x.shape.clone());
        let work = value.elements().saturating_mul(2);
        Ok((vec![value], work))
    }

    fn reduce(&self) -> Result<Made, Refusal> {
        let x = self.x()?;
        let rank = x.shape.len();
        let axes = self.moved("axes", if self.node.op() == "ReduceSum" { 13 } else { 18 })?;
        let axes = match axes.filter(|axes| !axes.is_empty()) {
            Some(axes) => axes_of(&axes, rank)?,
            None if self.int("noop_with_empty_axes", 0)? != 0 => Vec::new(),
            None => (0..rank).collect(),
        };
        if x.batch_axis().is_some_and(|batch| axes.contains(&batch)) {
            return batch_refusal("reduces over the rows of the batch");
        }
        let value = Value::of(x.elem, without(&x.shape, &axes, self.int("keepdims", 1)? != 0));
        Ok((vec![value], x.elements()))
    }

    fn arg_reduce(&self) -> Result<Made, Refusal> {
        let x = self.x()?;
        let axis = axis_of(self.int("axis", 0)?, x.shape.len())?;
        if x.batch_axis() == Some(axis) {
            return batch_refusal("selects among the rows of the batch");
        }
        let value = Value::of(elem::INT64, without(&x.shape, &[axis], self.int("keepdims", 1)? != 0));
        Ok((vec![value], x.elements()))
    }

    fn cast(&self) -> Result<Made, Refusal> {
        let x = self.x()?;
        let to = i32::try_from(self.int("to", 0)?).unwrap_or(0);
        if width(to).is_none() {
            return attribute_refusal(format!("casts to the type {to}"));
        }
        let whole = matches!(to, elem::INT32 | elem::INT64) && x.elem != elem::BOOL;
        let data = x.data.clone().filter(|_| whole);
        Ok(self.one(Value { data, ..Value::of(to, x.shape.clone()) }))
    }

    fn dropout(&self) -> Result<Made, Refusal> {
        let x = self.x()?;
        match self.known(2, "training_mode")?.as_deref() {
            None | Some([0]) => {}
            Some(_) => return attribute_refusal("drops at random"),
        }
        Ok(self.one(Value::of(x.elem, x.shape.clone())))
    }
}

/// The axis as an index; negative ones count from the end.
pub(super) fn axis_of(axis: i64, rank: usize) -> Result<usize, Refusal> {
    let signed = i64::try_from(rank).unwrap_or(i64::MAX);
    let index = if axis < 0 { axis.saturating_add(signed) } else { axis };
    match usize::try_from(index) {
        Ok(index) if index < rank => Ok(index),
        _ => shape_refusal(format!("the axis {axis} is outside of {rank} dimensions")),
    }
}

/// Axes as indices, each at most once.
pub(super) fn axes_of(axes: &[i64], rank: usize) -> Result<Vec<usize>, Refusal> {
    let mut found = Vec::with_capacity(axes.len().min(rank));
    for axis in axes {
        let index = axis_of(*axis, rank)?;
        if found.contains(&index) {
            return shape_refusal(format!("the axis {axis} is named twice"));
        }
        found.push(index);
    }
    Ok(found)
}

pub(super) fn without(shape: &[Dim], axes: &[usize], keep: bool) -> Vec<Dim> {
    let kept = shape.iter().enumerate().filter_map(|(axis, dim)| match (axes.contains(&axis), keep) {
        (true, true) => Some(Dim::Fixed(1)),
        (true, false) => None,
        (false, _) => Some(*dim),
    });
    kept.collect()
}

/// The depth of a product, if both sides agree and it is not the batch.
fn contracted(a: Dim, b: Dim) -> Result<u64, Refusal> {
    match (a, b) {
        (Dim::Fixed(a), Dim::Fixed(b)) if a == b => Ok(a),
        (Dim::Fixed(a), Dim::Fixed(b)) => shape_refusal(format!("the depths {a} and {b} differ")),
        _ => batch_refusal("sums over the rows of the batch"),
    }
}

/// The common shape of two operands, aligned at the end.
pub(super) fn broadcast(a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>, Refusal> {
    let rank = a.len().max(b.len());
    let dim = |shape: &[Dim], at: usize| (at + shape.len()).checked_sub(rank).map_or(Dim::Fixed(1), |i| shape[i]);
    let mut shape = Vec::with_capacity(rank);
    for at in 0..rank {
        shape.push(match (dim(a, at), dim(b, at)) {
            (x, Dim::Fixed(1)) | (Dim::Fixed(1), x) => x,
            (x, y) if x == y => x,
            (Dim::Fixed(x), Dim::Fixed(y)) => return shape_refusal(format!("the extents {x} and {y} do not fit")),
            _ => return batch_refusal("lines the rows of the batch up with another axis"),
        });
    }
    Ok(shape)
}

/// Arithmetic on followed integers; `None` where the result is not known.
fn folded(op: &str, a: &Value, b: &Value) -> Option<Vec<Known>> {
    let (left, right) = (a.data.as_ref()?, b.data.as_ref()?);
    let len = if left.len() == right.len() || right.len() == 1 {
        left.len()
    } else if left.len() == 1 {
        right.len()
    } else {
        return None;
    };
    let pick = |list: &[Known], at: usize| list[if list.len() == 1 { 0 } else { at }];
    (0..len).map(|at| fold_one(op, pick(left, at), pick(right, at))).collect()
}

fn fold_one(op: &str, left: Known, right: Known) -> Option<Known> {
    use Known::{Batch, Int};
    let truth = |holds: bool| Some(Int(i64::from(holds)));
    match (op, left, right) {
        ("Add", Int(a), Int(b)) => a.checked_add(b).map(Int),
        ("Sub", Int(a), Int(b)) => a.checked_sub(b).map(Int),
        ("Mul", Int(a), Int(b)) => a.checked_mul(b).map(Int),
        ("Div", Int(a), Int(b)) => a.checked_div(b).map(Int),
        ("Max", Int(a), Int(b)) => Some(Int(a.max(b))),
        ("Min", Int(a), Int(b)) => Some(Int(a.min(b))),
        ("Equal", Int(a), Int(b)) => truth(a == b),
        ("Greater", Int(a), Int(b)) => truth(a > b),
        ("Less", Int(a), Int(b)) => truth(a < b),
        ("Add" | "Sub", Batch, Int(0)) | ("Mul" | "Div", Batch, Int(1)) => Some(Batch),
        ("Add", Int(0), Batch) | ("Mul", Int(1), Batch) => Some(Batch),
        // A batch holds at least one row.
        ("Equal", Batch, Int(b)) | ("Equal", Int(b), Batch) if b <= 0 => truth(false),
        ("Equal", Batch, Batch) => truth(true),
        ("Max", Batch, Int(b)) | ("Max", Int(b), Batch) if b <= 1 => Some(Batch),
        _ => None,
    }
}
