//! The sweep: what may stand nowhere in a file, used or not.
//!
//! Owns the search through every corner of a model (nested graphs, functions, training graphs, attributes) for external
//! data, custom domains, control flow and parts that policies have no use for. Refuses to follow references.
//! Only `graph` calls it, after the scan has bounded nesting and counts.

use std::collections::BTreeSet;

use super::{
    graph::is_standard,
    ops,
    proto::{AttributeProto, GraphProto, LOCATION_EXTERNAL, ModelProto, NodeProto, SparseTensorProto, TensorProto},
};
use crate::{
    artifact::{codes, codes::quoted},
    fault::Fault,
};

/// Sweeps a whole model. External data is looked for first, because it has a remedy of its own.
///
/// # Errors
/// A miner's fault that names the place.
pub(super) fn model(model: &ModelProto) -> Result<(), Fault> {
    if let Some(name) = every_tensor(model).into_iter().find(|tensor| is_external(tensor)).map(|tensor| &tensor.name) {
        let name = quoted(name.as_deref().unwrap_or(""));
        return Err(codes::ONNX_EXTERNAL_DATA.because(format!("the constant {name} lies outside of the file")));
    }
    let part = |what: &str| Err(codes::ONNX_PART.because(format!("the file holds {what}")));
    if !model.training_info.is_empty() {
        return part("training graphs");
    }
    if !model.configuration.is_empty() {
        return part("settings for several devices");
    }
    let functions: BTreeSet<_> = model
        .functions
        .iter()
        .map(|function| (function.domain.as_deref().unwrap_or(""), function.name.as_deref().unwrap_or("")))
        .collect();
    if let Some((_, name)) = functions.iter().find(|(domain, _)| is_standard(Some(domain))) {
        return Err(codes::ONNX_FUNCTIONS.because(format!("the function {} hides a standard operator", quoted(name))));
    }
    if let Some(graph) = &model.graph {
        if !graph.sparse_initializer.is_empty() {
            return part("sparse constants");
        }
        nodes(&graph.node, &functions)?;
    }
    model.functions.iter().try_for_each(|function| nodes(&function.node, &functions))
}

fn nodes(all: &[NodeProto], functions: &BTreeSet<(&str, &str)>) -> Result<(), Fault> {
    for (at, node) in all.iter().enumerate() {
        let op_type = node.op_type.as_deref().unwrap_or("");
        let domain = node.domain.as_deref().unwrap_or("");
        let standard = is_standard(Some(domain));
        if !standard && !functions.contains(&(domain, op_type)) {
            let (op_type, domain) = (quoted(op_type), quoted(domain));
            return Err(codes::ONNX_CUSTOM_DOMAIN.because(format!("node {at} is {op_type} of the domain {domain}")));
        }
        let holds_graph = node.attribute.iter().any(|attribute| attribute.g.is_some() || !attribute.graphs.is_empty());
        if holds_graph || (standard && ops::CONTROL_FLOW.contains(&op_type)) {
            return Err(codes::ONNX_CONTROL_FLOW.because(format!("node {at} is {}", quoted(op_type))));
        }
        if node.attribute.iter().any(|a| a.sparse_tensor.is_some() || !a.sparse_tensors.is_empty()) {
            return Err(codes::ONNX_PART.because(format!("node {at} ({}) holds a sparse constant", quoted(op_type))));
        }
        if !node.device_configurations.is_empty() {
            return Err(codes::ONNX_PART.because(format!("node {at} ({}) is spread over devices", quoted(op_type))));
        }
    }
    Ok(())
}

fn is_external(tensor: &TensorProto) -> bool {
    tensor.data_location == Some(LOCATION_EXTERNAL) || !tensor.external_data.is_empty()
}

/// Every tensor of a model, wherever it hides.
pub(crate) fn every_tensor(model: &ModelProto) -> Vec<&TensorProto> {
    let mut found = Vec::new();
    let training = model.training_info.iter().flat_map(|info| [&info.initialization, &info.algorithm]).flatten();
    for graph in model.graph.iter().chain(training) {
        graph_tensors(graph, &mut found);
    }
    for function in &model.functions {
        function.attribute_proto.iter().for_each(|attribute| attribute_tensors(attribute, &mut found));
        function.node.iter().for_each(|node| node_tensors(node, &mut found));
    }
    found
}

fn graph_tensors<'a>(graph: &'a GraphProto, found: &mut Vec<&'a TensorProto>) {
    found.extend(&graph.initializer);
    graph.sparse_initializer.iter().for_each(|sparse| sparse_tensors(sparse, found));
    graph.node.iter().for_each(|node| node_tensors(node, found));
}

fn node_tensors<'a>(node: &'a NodeProto, found: &mut Vec<&'a TensorProto>) {
    node.attribute.iter().for_each(|attribute| attribute_tensors(attribute, found));
}

fn attribute_tensors<'a>(attribute: &'a AttributeProto, found: &mut Vec<&'a TensorProto>) {
    found.extend(attribute.t.iter().chain(&attribute.tensors));
    attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors).for_each(|sparse| sparse_tensors(sparse, found));
    attribute.g.iter().chain(&attribute.graphs).for_each(|graph| graph_tensors(graph, found));
}

fn sparse_tensors<'a>(sparse: &'a SparseTensorProto, found: &mut Vec<&'a TensorProto>) {
    found.extend(sparse.values.iter().chain(&sparse.indices));
}
