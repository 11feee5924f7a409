//! Disguises: what copiers do to somebody else's files so that they look like their own.

use waag::{
    artifact::onnx::proto::{
        AttributeProto, GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto, attribute,
    },
    cli::demo::disguise::{Dice, edit, floats, set_floats},
};

/// Gives the neurons of every hidden layer another order, and signs or scales that the next layer takes back: other
/// weights, the same function.
pub fn permute(model: &[u8], dice: &mut Dice) -> Vec<u8> {
    edit(model, |model| {
        let graph = model.graph.as_mut().expect("our files have a graph");
        let is_transposed = has(graph, "Gemm");
        // A tangent turns with its sign; a rectifier keeps any scale. Powers of two change no digit.
        let scales: [f32; 2] = if has(graph, "Tanh") { [1.0, -1.0] } else { [1.0, 2.0] };
        for layer in 0..2 {
            let width = tensor(graph, &format!("bias{layer}")).dims.iter().product::<i64>();
            let mut order: Vec<usize> = (0..usize::try_from(width).expect("small")).collect();
            dice.shuffle(&mut order);
            let scales: Vec<f32> = order.iter().map(|_| scales[dice.below(2)]).collect();
            let columns = |matrix: &[f32], by: &dyn Fn(f32) -> f32| {
                let moved = |row: &[f32]| -> Vec<f32> {
                    order.iter().zip(&scales).map(|(from, scale)| row[*from] * by(*scale)).collect()
                };
                matrix.chunks_exact(order.len()).flat_map(moved).collect::<Vec<_>>()
            };
            let rows = |matrix: &[f32], by: &dyn Fn(f32) -> f32| {
                let size = matrix.len() / order.len();
                let moved = |(from, scale): (&usize, &f32)| -> Vec<f32> {
                    matrix[from * size..(from + 1) * size].iter().map(|value| value * by(*scale)).collect()
                };
                order.iter().zip(&scales).flat_map(moved).collect::<Vec<_>>()
            };
            change(graph, &format!("bias{layer}"), |bias| columns(bias, &|scale| scale));
            change(graph, &format!("weight{layer}"), |matrix| {
                if is_transposed { rows(matrix, &|scale| scale) } else { columns(matrix, &|scale| scale) }
            });
            change(graph, &format!("weight{}", layer + 1), |matrix| {
                if is_transposed { columns(matrix, &f32::recip) } else { rows(matrix, &f32::recip) }
            });
        }
    })
}

fn has(graph: &GraphProto, op: &str) -> bool {
    graph.node.iter().any(|node| node.op_type.as_deref() == Some(op))
}

fn tensor<'a>(graph: &'a mut GraphProto, name: &str) -> &'a mut TensorProto {
    graph.initializer.iter_mut().find(|tensor| tensor.name.as_deref() == Some(name)).expect("our files name it")
}

fn change(graph: &mut GraphProto, name: &str, by: impl FnOnce(&[f32]) -> Vec<f32>) {
    let tensor = tensor(graph, name);
    let moved = by(&floats(tensor).expect("our weights are floats"));
    set_floats(tensor, &moved);
}

/// Writes the same network as another exporter would. Each difference by a throw of the dice, at least the names.
pub fn re_export(model: &[u8], dice: &mut Dice) -> Vec<u8> {
    edit(model, |model| {
        describe(model, dice);
        let graph = model.graph.as_mut().expect("our files have a graph");
        if dice.below(2) == 0 {
            split_gemms(graph);
        }
        if dice.below(2) == 0 {
            pass_through_identities(graph, dice);
        }
        if dice.below(2) == 0 {
            add_unused(graph, dice);
        }
        rename(graph, dice);
        if dice.below(2) == 0 {
            write_as_numbers(graph);
        }
        dice.shuffle(&mut graph.initializer);
        if dice.below(2) == 0 {
            constants_as_nodes(graph, dice);
        }
        reorder(graph, dice);
    })
}

/// Versions and prose.
fn describe(model: &mut ModelProto, dice: &mut Dice) {
    model.ir_version = Some(7 + i64::try_from(dice.below(4)).expect("small"));
    for set in &mut model.opset_import {
        set.version = Some(13 + i64::try_from(dice.below(8)).expect("small"));
    }
    model.producer_name = Some("another-exporter".to_owned());
    model.producer_version = Some(dice.below(9).to_string());
    model.doc_string = Some(format!("exported as {:x}", dice.roll()));
    model.metadata_props =
        vec![StringStringEntryProto { key: Some("author".to_owned()), value: Some(format!("{:x}", dice.roll())) }];
    let graph = model.graph.as_mut().expect("our files have a graph");
    graph.name = Some(format!("graph_{:x}", dice.roll()));
    graph.doc_string = Some("all my own work".to_owned());
}

fn node(op: &str, input: Vec<String>, output: String) -> NodeProto {
    NodeProto { op_type: Some(op.to_owned()), input, output: vec![output], ..NodeProto::default() }
}

/// Writes every `Gemm(x, w, b)` with a transposed weight as `Add(MatMul(x, wᵀ), b)`.
fn split_gemms(graph: &mut GraphProto) {
    let mut nodes = Vec::new();
    for gemm in std::mem::take(&mut graph.node) {
        let [input, weight, bias] = gemm.input.as_slice() else {
            nodes.push(gemm);
            continue;
        };
        transpose(tensor(graph, weight));
        let product = format!("{}_product", gemm.output[0]);
        nodes.push(node("MatMul", vec![input.clone(), weight.clone()], product.clone()));
        nodes.push(node("Add", vec![product, bias.clone()], gemm.output[0].clone()));
    }
    graph.node = nodes;
}

fn transpose(tensor: &mut TensorProto) {
    let values = floats(tensor).expect("our weights are floats");
    let [rows, columns] = [0, 1].map(|axis| usize::try_from(tensor.dims[axis]).expect("small"));
    let turned: Vec<f32> = (0..columns)
        .flat_map(|column| (0..rows).map(move |row| (row, column)))
        .map(|(r, c)| values[r * columns + c])
        .collect();
    tensor.dims.reverse();
    set_floats(tensor, &turned);
}

/// Puts nodes that hand on what they get between the others.
fn pass_through_identities(graph: &mut GraphProto, dice: &mut Dice) {
    let mut nodes = Vec::new();
    for mut next in std::mem::take(&mut graph.node) {
        if dice.below(2) == 0 {
            let passed = format!("passed{}", nodes.len());
            nodes.push(node("Identity", vec![next.input[0].clone()], passed.clone()));
            next.input[0] = passed;
        }
        nodes.push(next);
    }
    graph.node = nodes;
}

/// Adds what nothing reads: a constant, and a node that works on the observation in vain.
fn add_unused(graph: &mut GraphProto, dice: &mut Dice) {
    let mut unused =
        TensorProto { name: Some("unused".to_owned()), dims: vec![3], data_type: Some(1), ..TensorProto::default() };
    set_floats(&mut unused, &[dice.signed(), dice.signed(), dice.signed()]);
    graph.initializer.push(unused);
    let observation = graph.input[0].name.clone().expect("inputs have names");
    graph.node.push(node("Relu", vec![observation], "in_vain".to_owned()));
}

/// Other names for everything but what the contract names.
fn rename(graph: &mut GraphProto, dice: &mut Dice) {
    let ports: Vec<String> = graph.input.iter().chain(&graph.output).filter_map(|port| port.name.clone()).collect();
    let salt = dice.roll() & 0xffff;
    let rename = |name: &mut String| {
        if !name.is_empty() && !ports.contains(name) {
            *name = format!("v{salt:x}_{name}");
        }
    };
    for node in &mut graph.node {
        node.name = Some(format!("n{:x}", dice.roll()));
        node.input.iter_mut().chain(&mut node.output).for_each(rename);
    }
    graph.initializer.iter_mut().filter_map(|tensor| tensor.name.as_mut()).for_each(rename);
}

/// Floats one by one in place of raw bytes.
fn write_as_numbers(graph: &mut GraphProto) {
    for tensor in &mut graph.initializer {
        tensor.float_data = floats(tensor).expect("our weights are floats");
        tensor.raw_data = None;
    }
}

/// `Constant` nodes in place of initialisers, for some or all.
fn constants_as_nodes(graph: &mut GraphProto, dice: &mut Dice) {
    let kept = dice.below(graph.initializer.len());
    for tensor in graph.initializer.split_off(kept) {
        let mut constant = node("Constant", Vec::new(), tensor.name.clone().expect("initialisers have names"));
        constant.attribute = vec![AttributeProto {
            name: Some("value".to_owned()),
            r#type: Some(attribute::TENSOR),
            t: Some(tensor),
            ..AttributeProto::default()
        }];
        graph.node.insert(0, constant);
    }
}

/// Another order of nodes in which each still comes after those it reads.
fn reorder(graph: &mut GraphProto, dice: &mut Dice) {
    let mut known: Vec<String> = graph.input.iter().chain(&graph.output).filter_map(|port| port.name.clone()).collect();
    known.extend(graph.initializer.iter().filter_map(|tensor| tensor.name.clone()));
    let made: Vec<String> = graph.output.iter().filter_map(|port| port.name.clone()).collect();
    known.retain(|name| !made.contains(name));
    let mut left = std::mem::take(&mut graph.node);
    while !left.is_empty() {
        let ready: Vec<usize> =
            (0..left.len()).filter(|at| left[*at].input.iter().all(|name| known.contains(name))).collect();
        let next = left.remove(ready[dice.below(ready.len())]);
        known.extend(next.output.iter().cloned());
        graph.node.push(next);
    }
}

/// A number between these, evenly on a logarithmic scale.
pub fn log_uniform(least: f64, most: f64, dice: &mut Dice) -> f64 {
    (least.ln() + (most / least).ln() * f64::from(dice.unit())).exp()
}
