//! Functions of a model, expanded into plain nodes within a budget.
//!
//! Owns the substitution of a call by its body: inputs, outputs, attributes, fresh names. Refuses recursion, depth and
//! growth beyond the limits. Only `graph` calls it, after the sweep.

use std::collections::HashMap;

use prost::Message as _;

use super::{
    graph::is_standard,
    proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto},
};
use crate::{
    artifact::{codes, codes::quoted, limits},
    fault::Fault,
};

type Functions<'a> = HashMap<(&'a str, &'a str, &'a str), &'a FunctionProto>;

/// The graph's nodes with every call of a function replaced by its body.
///
/// # Errors
/// `onnx_functions` for a budget exceeded, a cycle, or a function written for another operator set.
pub(super) fn nodes(model: &ModelProto, graph: &GraphProto, opset: i64) -> Result<Vec<NodeProto>, Fault> {
    let mut functions = Functions::new();
    for function in &model.functions {
        let standard = function.opset_import.iter().find(|set| is_standard(set.domain.as_deref()));
        let version = standard.and_then(|set| set.version).unwrap_or(opset);
        let name = function.name.as_deref().unwrap_or("");
        let refuse = |why: String| Err(codes::ONNX_FUNCTIONS.because(format!("the function {} {why}", quoted(name))));
        if version != opset {
            return refuse(format!("is written for operator set {version}, the graph for {opset}"));
        }
        let key = (function.domain.as_deref().unwrap_or(""), name, function.overload.as_deref().unwrap_or(""));
        if functions.insert(key, function).is_some() {
            return refuse("is written twice".to_owned());
        }
    }
    let mut expansion = Expansion { functions, nodes: Vec::new(), calls: 0, copied_bytes: 0 };
    for node in &graph.node {
        expansion.node(node.clone(), 0)?;
    }
    Ok(expansion.nodes)
}

struct Expansion<'a> {
    functions: Functions<'a>,
    nodes: Vec<NodeProto>,
    calls: usize,
    copied_bytes: usize,
}

impl Expansion<'_> {
    fn node(&mut self, node: NodeProto, depth: usize) -> Result<(), Fault> {
        let domain = node.domain.as_deref().unwrap_or("");
        if is_standard(Some(domain)) {
            self.nodes.push(node);
            return self.check_budget();
        }
        let op_type = node.op_type.as_deref().unwrap_or("");
        let key = (domain, op_type, node.overload.as_deref().unwrap_or(""));
        let Some(function) = self.functions.get(&key).copied() else {
            return Err(codes::ONNX_FUNCTIONS.because(format!("no overload of {} fits a call", quoted(op_type))));
        };
        // A function that calls itself runs into this limit too.
        if depth == limits::ONNX_FUNCTION_DEPTH {
            let limit = limits::ONNX_FUNCTION_DEPTH;
            return Err(codes::ONNX_FUNCTIONS.because(format!("calls are nested more than {limit} deep")));
        }
        if node.input.len() > function.input.len() || node.output.len() > function.output.len() {
            return Err(codes::ONNX_FUNCTIONS.because(format!("a call of {} has too many ports", quoted(op_type))));
        }
        self.calls += 1;
        self.check_budget()?;
        self.call(&node, function, depth)
    }

    /// Calls count too: a tree of calls with empty bodies makes no nodes.
    fn check_budget(&self) -> Result<(), Fault> {
        let limit = limits::ONNX_EXPANDED_NODES;
        if self.nodes.len() + self.calls > limit {
            return Err(codes::ONNX_FUNCTIONS.because(format!("more than {limit} nodes once functions are expanded")));
        }
        Ok(())
    }

    fn call(&mut self, node: &NodeProto, function: &FunctionProto, depth: usize) -> Result<(), Fault> {
        let mut names: HashMap<&str, String> = HashMap::new();
        for (at, formal) in function.input.iter().enumerate() {
            names.insert(formal, node.input.get(at).cloned().unwrap_or_default());
        }
        // An output that is an input of the function itself needs a node of its own.
        let mut passed = Vec::new();
        for (at, formal) in function.output.iter().enumerate() {
            let actual = node.output.get(at).cloned().unwrap_or_default();
            match names.get(formal.as_str()) {
                Some(input) => passed.push((input.clone(), actual)),
                // An output that the caller leaves out still needs a name inside.
                None if actual.is_empty() => {}
                None => drop(names.insert(formal, actual)),
            }
        }
        let call = self.calls;
        for inner in &function.node {
            self.copied_bytes += inner.encoded_len();
            if self.copied_bytes > limits::ONNX_EXPANDED_BYTES {
                let limit = limits::ONNX_EXPANDED_BYTES;
                return Err(codes::ONNX_FUNCTIONS.because(format!("more than {limit} bytes of function bodies")));
            }
            let mut fresh = inner.clone();
            for name in fresh.input.iter_mut().chain(&mut fresh.output).filter(|name| !name.is_empty()) {
                // The control character keeps names apart from any that the file is likely to use; a clash is refused
                // later as a value made twice.
                let local = || format!("{call}\u{1}{name}");
                *name = names.get(name.as_str()).cloned().unwrap_or_else(local);
            }
            fresh.attribute = bound(&inner.attribute, node, function);
            self.node(fresh, depth + 1)?;
        }
        for (from, to) in passed.into_iter().filter(|(_, to)| !to.is_empty()) {
            let op_type = Some("Identity".to_owned());
            self.nodes.push(NodeProto { input: vec![from], output: vec![to], op_type, ..NodeProto::default() });
        }
        Ok(())
    }
}

/// The attributes of an inner node with the function's own put in: the caller's value, else the default, else none.
fn bound(inner: &[AttributeProto], call: &NodeProto, function: &FunctionProto) -> Vec<AttributeProto> {
    let mut attributes = Vec::with_capacity(inner.len());
    for attribute in inner {
        let Some(wanted) = attribute.ref_attr_name.as_deref().filter(|name| !name.is_empty()) else {
            attributes.push(attribute.clone());
            continue;
        };
        let given = call.attribute.iter().chain(&function.attribute_proto);
        if let Some(value) = given.into_iter().find(|candidate| candidate.name.as_deref() == Some(wanted)) {
            attributes.push(AttributeProto { name: attribute.name.clone(), ..value.clone() });
        }
    }
    attributes
}
