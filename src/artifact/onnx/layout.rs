//! The rules of operators that move elements about: reshape, slice, join, repeat.
//!
//! Owns their shapes and the integers followed through them. Refuses what would take a row of the batch apart from its
//! place. Only `rules` calls it.

use super::{
    graph::Attribute,
    proto::elem,
    rules::{Call, attribute_refusal, axes_of, axis_of, batch_refusal, broadcast, shape_refusal, without},
    shape::{Dim, Known, Made, Refusal, Value, elements},
};
use crate::artifact::limits;

impl Call<'_> {
    pub(super) fn shape_of(&self) -> Result<Made, Refusal> {
        let x = self.x()?;
        let rank = i64::try_from(x.shape.len()).unwrap_or(i64::MAX);
        let bound =
            |at: i64| usize::try_from((if at < 0 { at.saturating_add(rank) } else { at }).clamp(0, rank)).unwrap_or(0);
        let (start, end) = (bound(self.int("start", 0)?), bound(self.int("end", rank)?));
        let data: Vec<_> = x.shape.get(start..end).unwrap_or_default().iter().map(known_of).collect();
        let value = Value { elem: elem::INT64, shape: vec![Dim::Fixed(data.len() as u64)], data: Some(data) };
        Ok((vec![value], 1))
    }

    /// The rows stay in front; only what is within a row is arranged anew.
    pub(super) fn reshape(&self) -> Result<Made, Refusal> {
        let x = self.x()?;
        let Some(wanted) = &self.input(1)?.data else {
            return shape_refusal("the new shape is not known before it runs");
        };
        let zero_copies = self.int("allowzero", 0)? == 0;
        let mut shape = Vec::with_capacity(wanted.len());
        let mut open = None;
        for (at, known) in wanted.iter().enumerate() {
            shape.push(match known {
                Known::Batch => Dim::Batch,
                Known::Int(0) if zero_copies => match x.shape.get(at) {
                    Some(dim) => *dim,
                    None => return shape_refusal("copies an axis that is not there"),
                },
                Known::Int(-1) if open.is_none() => {
                    open = Some(at);
                    Dim::Fixed(1)
                }
                Known::Int(extent) => match u64::try_from(*extent) {
                    Ok(extent) => Dim::Fixed(extent),
                    Err(_) => return shape_refusal("the new shape is not a shape"),
                },
            });
        }
        if let Some(at) = open {
            shape[at] = rest_of(x, &shape)?;
        }
        let value = Value { data: x.data.clone(), ..Value::of(x.elem, shape) };
        match (x.batch_axis(), value.batch_axis()) {
            (None, None) | (Some(0), Some(0)) => {}
            _ => return batch_refusal("moves the rows of the batch among other axes"),
        }
        if value.elements() != x.elements() {
            return shape_refusal(format!("{} elements become {}", x.elements(), value.elements()));
        }
        Ok((vec![value], 1))
    }

    pub(super) fn flatten(&self) -> Result<Made, Refusal> {
        let x = self.x()?;
        let rank = x.shape.len();
        let axis = self.int("axis", 1)?;
        let axis = if axis < 0 { axis.saturating_add(i64::try_from(rank).unwrap_or(0)) } else { axis };
        let Some(axis) = usize::try_from(axis).ok().filter(|axis| *axis <= rank) else {
            return shape_refusal("the axis is outside of the input");
        };
        let (before, after) = x.shape.split_at(axis);
        let joined = |dims: &[Dim]| match dims {
            [Dim::Batch] => Some(Dim::Batch),
            // A batch of rows of one element each is still a batch.
            [Dim::Batch, rest @ ..] if elements(rest) == 1 => Some(Dim::Batch),
            dims if dims.contains(&Dim::Batch) => None,
            dims => Some(Dim::Fixed(elements(dims))),
        };
        let (Some(before), Some(after)) = (joined(before), joined(after)) else {
            return batch_refusal("joins the rows of the batch with another axis");
        };
        Ok((vec![Value::of(x.elem, vec![before, after])], 1))
    }

    pub(super) fn transpose(&self) -> Result<Made, Refusal> {
        let x = self.x()?;
        let rank = x.shape.len();
        let order = match self.ints("perm")? {
            Some(perm) => axes_of(&perm, rank)?,
            None => (0..rank).rev().collect(),
        };
        if order.len() != rank {
            return shape_refusal("`perm` does not name every axis once");
        }
        let shape = order.iter().map(|axis| x.shape[*axis]).collect();
        let mut value = Value::of(x.elem, shape);
        if rank <= 1 {
            value.data.clone_from(&x.data);
        }
        Ok(self.one(value))
    }

    pub(super) fn squeeze(&self) -> Result<Made, Refusal> {
        let x = self.x()?;
        let axes = self.moved("axes", 13)?;
        let axes = match axes {
            Some(axes) => axes_of(&axes, x.shape.len())?,
            // What is dropped would depend on whether the batch holds one row.
            None if x.batch_axis().is_some() => return batch_refusal("drops axes of one row without naming them"),
            None => (0..x.shape.len()).filter(|axis| x.shape[*axis] == Dim::Fixed(1)).collect(),
        };
        if axes.iter().any(|axis| x.shape[*axis] != Dim::Fixed(1)) {
            return shape_refusal("drops an axis that is not of extent one");
        }
        let value = Value { data: x.data.clone(), ..Value::of(x.elem, without(&x.shape, &axes, false)) };
        Ok((vec![value], 1))
    }

    pub(super) fn unsqueeze(&self) -> Result<Made, Refusal> {
        let x = self.x()?;
        let axes = self.moved("axes", 13)?;
        let Some(axes) = axes else { return attribute_refusal("the axes are missing") };
        let rank = x.shape.len() + axes.len();
        let axes = axes_of(&axes, rank)?;
        let mut rest = x.shape.iter().copied();
        let shape = (0..rank).map(|axis| if axes.contains(&axis) { Some(Dim::Fixed(1)) } else { rest.next() });
        let shape = shape.collect::<Option<Vec<_>>>().unwrap_or_default();
        let value = Value { data: x.data.clone(), ..Value::of(x.elem, shape) };
        Ok((vec![value], 1))
    }

    pub(super) fn concat(&self) -> Result<Made, Refusal> {
        let first = self.x()?;
        let Some(Attribute::Int(axis)) = self.node.attributes.get("axis") else {
            return attribute_refusal("the axis is missing");
        };
        let axis = axis_of(*axis, first.shape.len())?;
        let mut extent = 0_u64;
        let mut data = Some(Vec::new());
        for at in 0..self.inputs.len() {
            let input = self.input(at)?;
            let same = |i: usize| i == axis || input.shape[i] == first.shape[i];
            if input.elem != first.elem || input.shape.len() != first.shape.len() || !(0..first.shape.len()).all(same) {
                return shape_refusal(format!("input {at} does not fit the others"));
            }
            let Dim::Fixed(more) = input.shape[axis] else { return batch_refusal("joins batches end to end") };
            extent = extent.saturating_add(more);
            data = data.zip(input.data.as_ref()).map(|(mut all, more): (Vec<Known>, _)| {
                all.extend(more);
                all
            });
        }
        let mut shape = first.shape.clone();
        shape[axis] = Dim::Fixed(extent);
        let rank = shape.len();
        let data = data.filter(|data| rank == 1 && data.len() <= limits::ONNX_FOLLOWED_ELEMENTS);
        Ok(self.one(Value { data, ..Value::of(first.elem, shape) }))
    }

    pub(super) fn split(&self) -> Result<Made, Refusal> {
        let x = self.x()?;
        let axis = axis_of(self.int("axis", 0)?, x.shape.len())?;
        let Dim::Fixed(whole) = x.shape[axis] else { return batch_refusal("splits the batch") };
        let sizes: Vec<u64> = match self.moved("split", 13)? {
            Some(sizes) => sizes.iter().map(|size| u64::try_from(*size).unwrap_or(u64::MAX)).collect(),
            None => {
                let outputs = self.node.outputs.len() as u64;
                let part = whole.div_ceil(outputs.max(1));
                (0..outputs).map(|at| part.min(whole.saturating_sub(at.saturating_mul(part)))).collect()
            }
        };
        let sum = sizes.iter().fold(0_u64, |sum, size| sum.saturating_add(*size));
        if sum != whole || sizes.len() != self.node.outputs.len() {
            return shape_refusal("the parts do not add up");
        }
        let part = |size: &u64| {
            let mut shape = x.shape.clone();
            shape[axis] = Dim::Fixed(*size);
            Value::of(x.elem, shape)
        };
        Ok((sizes.iter().map(part).collect(), x.elements()))
    }

    pub(super) fn slice(&self) -> Result<Made, Refusal> {
        let x = self.x()?;
        let (Some(starts), Some(ends)) = (self.known(1, "starts")?, self.known(2, "ends")?) else {
            return attribute_refusal("the bounds are missing");
        };
        let axes = match self.known(3, "axes")? {
            Some(axes) => axes_of(&axes, x.shape.len())?,
            None => (0..starts.len()).collect(),
        };
        let steps = self.known(4, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
        if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] || axes.iter().any(|axis| *axis >= x.shape.len())
        {
            return shape_refusal("the bounds do not fit the axes");
        }
        let mut shape = x.shape.clone();
        let mut data = x.data.clone().filter(|_| x.shape.len() == 1 && axes.len() == 1);
        for (at, axis) in axes.iter().enumerate() {
            let Dim::Fixed(extent) = x.shape[*axis] else {
                // Everything, in order, whatever the number of rows.
                if starts[at] == 0 && ends[at] >= i64::from(i32::MAX) && steps[at] == 1 {
                    continue;
                }
                return batch_refusal("selects among the rows of the batch");
            };
            let picked = picked(extent, starts[at], ends[at], steps[at])?;
            shape[*axis] = Dim::Fixed(picked.len() as u64);
            data = data.and_then(|data| picked.iter().map(|i| data.get(*i).copied()).collect());
        }
        Ok(self.one(Value { data, ..Value::of(x.elem, shape) }))
    }

    pub(super) fn gather(&self) -> Result<Made, Refusal> {
        let (x, indices) = (self.x()?, self.input(1)?);
        if !matches!(indices.elem, elem::INT32 | elem::INT64) {
            return attribute_refusal("the indices are not integers");
        }
        let axis = axis_of(self.int("axis", 0)?, x.shape.len())?;
        let Dim::Fixed(extent) = x.shape[axis] else { return batch_refusal("selects among the rows of the batch") };
        let mut shape = x.shape[..axis].to_vec();
        shape.extend(&indices.shape);
        shape.extend(&x.shape[axis + 1..]);
        let mut value = Value::of(x.elem, shape);
        if let (Some(data), Some(indices), 1) = (&x.data, indices.ints(), x.shape.len()) {
            let extent = i64::try_from(extent).unwrap_or(i64::MAX);
            let pick = |index: i64| {
                let index = if index < 0 { index.saturating_add(extent) } else { index };
                usize::try_from(index).ok().and_then(|index| data.get(index).copied())
            };
            let Some(picked) = indices.into_iter().map(pick).collect::<Option<Vec<_>>>() else {
                return shape_refusal("an index is outside of the input");
            };
            value.data = Some(picked);
        }
        Ok(self.one(value))
    }

    pub(super) fn expand(&self) -> Result<Made, Refusal> {
        let x = self.x()?;
        let Some(wanted) = &self.input(1)?.data else {
            return shape_refusal("the new shape is not known before it runs");
        };
        let Some(target) = wanted.iter().map(dim_of).collect::<Option<Vec<_>>>() else {
            return shape_refusal("the new shape is not a shape");
        };
        Ok(self.one(Value::of(x.elem, broadcast(&x.shape, &target)?)))
    }

    pub(super) fn tile(&self) -> Result<Made, Refusal> {
        let x = self.x()?;
        let Some(repeats) = self.known(1, "repeats")?.filter(|repeats| repeats.len() == x.shape.len()) else {
            return shape_refusal("the repeats do not fit the axes");
        };
        let mut shape = Vec::with_capacity(repeats.len());
        for (dim, repeat) in x.shape.iter().zip(repeats) {
            shape.push(match (dim, u64::try_from(repeat)) {
                (Dim::Batch, Ok(1)) => Dim::Batch,
                (Dim::Batch, _) => return batch_refusal("repeats the rows of the batch"),
                (Dim::Fixed(extent), Ok(repeat)) => Dim::Fixed(extent.saturating_mul(repeat)),
                (Dim::Fixed(_), Err(_)) => return shape_refusal("a repeat is negative"),
            });
        }
        Ok(self.one(Value::of(x.elem, shape)))
    }

    pub(super) fn pad(&self) -> Result<Made, Refusal> {
        let x = self.x()?;
        match self.node.attributes.get("mode") {
            None => {}
            Some(Attribute::Text(mode)) if mode == "constant" => {}
            Some(_) => return attribute_refusal("only `constant` padding is allowed"),
        }
        let rank = x.shape.len();
        let axes = match self.known(3, "axes")? {
            Some(axes) => axes_of(&axes, rank)?,
            None => (0..rank).collect(),
        };
        let Some(pads) = self.known(1, "pads")?.filter(|pads| pads.len() == 2 * axes.len()) else {
            return shape_refusal("the padding does not fit the axes");
        };
        let mut shape = x.shape.clone();
        for (at, axis) in axes.iter().enumerate() {
            let (before, after) = (pads[at], pads[at + axes.len()]);
            shape[*axis] = match (x.shape[*axis], u64::try_from(before), u64::try_from(after)) {
                (dim, Ok(0), Ok(0)) => dim,
                (Dim::Batch, ..) => return batch_refusal("adds rows to the batch"),
                (Dim::Fixed(extent), Ok(before), Ok(after)) => {
                    Dim::Fixed(extent.saturating_add(before).saturating_add(after))
                }
                _ => return shape_refusal("a padding is negative"),
            };
        }
        Ok(self.one(Value::of(x.elem, shape)))
    }

    pub(super) fn fill(&self) -> Result<Made, Refusal> {
        let Some(wanted) = &self.x()?.data else {
            return shape_refusal("the shape is not known before it runs");
        };
        let Some(shape) = wanted.iter().map(dim_of).collect::<Option<Vec<_>>>() else {
            return shape_refusal("the shape is not a shape");
        };
        let (elem_type, content) = match self.node.attributes.get("value") {
            None => (elem::FLOAT, None),
            Some(Attribute::Tensor(tensor)) if tensor.len() == 1 => (tensor.elem, tensor.ints(1)),
            Some(_) => return attribute_refusal("`value` is not a constant of one element"),
        };
        let mut value = Value::of(elem_type, shape);
        let few = value.elements() <= limits::ONNX_FOLLOWED_ELEMENTS as u64 && value.batch_axis().is_none();
        if let (Some([content]), true) = (content.as_deref(), few) {
            value.data = Some(vec![Known::Int(*content); usize::try_from(value.elements()).unwrap_or(0)]);
        }
        Ok(self.one(value))
    }

    pub(super) fn range(&self) -> Result<Made, Refusal> {
        let (start, limit, step) = (self.only_int(0, "start")?, self.only_int(1, "limit")?, self.only_int(2, "delta")?);
        if step == 0 {
            return attribute_refusal("the step is zero");
        }
        let span = i128::from(limit) - i128::from(start);
        let len = (span + i128::from(step) - i128::from(step.signum())) / i128::from(step);
        let len = u64::try_from(len.max(0)).unwrap_or(u64::MAX);
        let mut value = Value::of(self.x()?.elem, vec![Dim::Fixed(len)]);
        if len <= limits::ONNX_FOLLOWED_ELEMENTS as u64 {
            let at = |i: u64| Known::Int(start.wrapping_add(step.wrapping_mul(i64::try_from(i).unwrap_or(0))));
            value.data = Some((0..len).map(at).collect());
        }
        Ok(self.one(value))
    }
}

fn known_of(dim: &Dim) -> Known {
    match dim {
        Dim::Batch => Known::Batch,
        Dim::Fixed(extent) => Known::Int(i64::try_from(*extent).unwrap_or(i64::MAX)),
    }
}

fn dim_of(known: &Known) -> Option<Dim> {
    match known {
        Known::Batch => Some(Dim::Batch),
        Known::Int(extent) => u64::try_from(*extent).ok().map(Dim::Fixed),
    }
}

/// What `-1` stands for in a new shape.
fn rest_of(x: &Value, shape: &[Dim]) -> Result<Dim, Refusal> {
    let (whole, others) = (x.elements(), elements(shape));
    let takes_batch = x.batch_axis().is_some() && !shape.contains(&Dim::Batch);
    if others == 0 || whole % others != 0 {
        return shape_refusal(format!("{whole} elements do not divide by {others}"));
    }
    match (takes_batch, whole / others) {
        (true, 1) => Ok(Dim::Batch),
        (true, _) => batch_refusal("joins the rows of the batch with another axis"),
        (false, rest) => Ok(Dim::Fixed(rest)),
    }
}

/// The positions a slice takes.
fn picked(extent: u64, start: i64, end: i64, step: i64) -> Result<Vec<usize>, Refusal> {
    if extent > limits::ONNX_SHARED_ELEMENTS || step == 0 {
        return shape_refusal("the slice is not a slice");
    }
    // Below 2^20, so every sum fits.
    let extent = i64::try_from(extent).unwrap_or(0);
    let from_end = |at: i64| if at < 0 { at.saturating_add(extent) } else { at };
    let mut positions = Vec::new();
    if step > 0 {
        let (mut at, end) = (from_end(start).clamp(0, extent), from_end(end).clamp(0, extent));
        while at < end {
            positions.push(usize::try_from(at).unwrap_or(0));
            at = at.saturating_add(step);
        }
    } else {
        let (mut at, end) = (from_end(start).clamp(-1, extent - 1), from_end(end).clamp(-1, extent - 1));
        while at > end {
            positions.push(usize::try_from(at).unwrap_or(0));
            at = at.saturating_add(step);
        }
    }
    Ok(positions)
}
