//! The graph of a policy in its own form: one list of allowed nodes over numbered values.
//!
//! Owns the way from a hostile file to that form: versions, domains, functions expanded, constants gathered, unused
//! nodes dropped; and the way back to a plain file. Refuses shapes (see `shape`) and weights' meaning (see `canon`).
//! `artifact::policy` and `artifact::pack` call it.
//!
//! The plain file is what a runtime is given: standard operators alone, no functions, no names of the exporter. What
//! was checked is what runs, and nothing else of the miner's file reaches the runtime.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use prost::Message as _;

use super::{
    expand,
    ops::{self, Operator},
    proto::{self, AttributeProto, GraphProto, ModelProto, NodeProto, attribute, elem},
    shape::{Dim, Shapes},
    sweep,
    tensor::Tensor,
    wire,
};
use crate::{
    artifact::{Limits, codes, codes::quoted, limits},
    fault::Fault,
};

/// The name of the input in a plain file.
pub const INPUT: &str = "observation";
/// The name of the output in a plain file.
pub const OUTPUT: &str = "action";
/// Names of which one chooses among several inputs.
const INPUT_NAMES: [&str; 2] = ["observation", "obs"];
/// Names of which one chooses among several outputs.
const OUTPUT_NAMES: [&str; 4] = ["logits", "action", "actions", "output"];

/// A value's number: the input is 0, the others follow in the order in which they are made.
pub type ValueId = usize;

/// An attribute's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    /// A float.
    Float(f32),
    /// An integer.
    Int(i64),
    /// A text.
    Text(String),
    /// A constant.
    Tensor(Tensor),
    /// Floats.
    Floats(Vec<f32>),
    /// Integers.
    Ints(Vec<i64>),
}

/// One allowed operation.
#[derive(Debug, Clone)]
pub struct Node {
    pub(crate) operator: &'static Operator,
    /// Values it reads; `None` is an input left out.
    pub inputs: Vec<Option<ValueId>>,
    /// Values it makes, at least one. None is left out: onnxruntime crashes on a `Split` that leaves one out.
    pub outputs: Vec<ValueId>,
    /// Its attributes.
    pub attributes: BTreeMap<String, Attribute>,
}

impl Node {
    /// The operator's name.
    #[must_use]
    pub const fn op(&self) -> &'static str {
        self.operator.name
    }
}

/// A policy's computation.
#[derive(Debug, Clone)]
pub struct Graph {
    /// Version of the standard operator set.
    pub opset: i64,
    /// Who wrote the file, as it says; shown, never used.
    pub producer: String,
    /// The name of the input in the file.
    pub input_name: String,
    /// The name of the output in the file.
    pub output_name: String,
    /// Width of the observation, as the file declares it.
    pub obs_dim: u64,
    /// Constants by value.
    pub constants: BTreeMap<ValueId, Tensor>,
    /// Nodes in topological order, each of use to the output.
    pub nodes: Vec<Node>,
    /// The value the policy answers with.
    pub output: ValueId,
    /// How many values there are.
    pub values: usize,
}

/// The input's number.
pub const INPUT_ID: ValueId = 0;

impl Graph {
    /// Reads and checks a file up to, but without, its shapes.
    ///
    /// # Errors
    /// A miner's fault with the measured value and the limit.
    pub fn read(bytes: &[u8], limits: &Limits) -> Result<Self, Fault> {
        let size = bytes.len() as u64;
        if size > limits.model_bytes {
            return Err(codes::ONNX_TOO_LARGE.because(format!("{size} bytes; the limit is {}", limits.model_bytes)));
        }
        wire::scan(bytes)?;
        let model = ModelProto::decode(bytes).map_err(|source| codes::ONNX_MALFORMED.because(source.to_string()))?;
        sweep::model(&model)?;
        let opset = versions(&model)?;
        let Some(graph) = &model.graph else {
            return Err(codes::ONNX_MALFORMED.because("the file holds no graph"));
        };
        let nodes = expand::nodes(&model, graph, opset)?;
        Ok(Builder::new(opset, &model, graph)?.build(graph, &nodes)?.renumbered())
    }

    /// Values numbered anew without gaps: the input, the constants, then in the order in which they are made. So the
    /// plain file of a plain file is itself.
    fn renumbered(mut self) -> Self {
        let made = self.nodes.iter().flat_map(|node| &node.outputs);
        let order = std::iter::once(&INPUT_ID).chain(self.constants.keys()).chain(made);
        let numbers: HashMap<ValueId, ValueId> = order.enumerate().map(|(at, id)| (*id, at)).collect();
        self.values = numbers.len();
        self.output = numbers[&self.output];
        self.constants = self.constants.into_iter().map(|(id, tensor)| (numbers[&id], tensor)).collect();
        for node in &mut self.nodes {
            for id in node.inputs.iter_mut().flatten().chain(&mut node.outputs) {
                *id = numbers[id];
            }
        }
        self
    }

    /// Keeps what the output needs, and returns the values it needs. Values keep their numbers.
    fn prune(&mut self) -> BTreeSet<ValueId> {
        let mut used = BTreeSet::from([self.output]);
        for node in self.nodes.iter().rev() {
            if node.outputs.iter().any(|id| used.contains(id)) {
                used.extend(node.inputs.iter().flatten());
            }
        }
        self.nodes.retain(|node| node.outputs.iter().any(|id| used.contains(id)));
        self.constants.retain(|id, _| used.contains(id));
        used
    }

    /// The same graph with constants where nodes only compute small known integers, as exporters do to write down a
    /// shape: less for a runtime to get wrong.
    #[must_use]
    pub fn folded(mut self, shapes: &Shapes) -> Self {
        for (id, value) in &shapes.values {
            if let Some(tensor) = value.known_tensor().filter(|_| *id != self.output) {
                self.constants.entry(*id).or_insert(tensor);
            }
        }
        let constants = &self.constants;
        self.nodes.retain(|node| !node.outputs.iter().all(|id| constants.contains_key(id)));
        let made: BTreeSet<_> = self.nodes.iter().flat_map(|node| &node.outputs).copied().collect();
        self.constants.retain(|id, _| !made.contains(id));
        self.prune();
        self.renumbered()
    }

    /// The file a runtime is given. `shapes` are those of this graph.
    #[must_use]
    pub fn to_plain(&self, shapes: &Shapes) -> Vec<u8> {
        let name = |id: ValueId| match id {
            INPUT_ID => INPUT.to_owned(),
            id if id == self.output => OUTPUT.to_owned(),
            id => format!("v{id}"),
        };
        let names = |ids: &[Option<ValueId>]| ids.iter().map(|id| id.map(name).unwrap_or_default()).collect();
        let node = |node: &Node| NodeProto {
            input: names(&node.inputs),
            output: node.outputs.iter().copied().map(name).collect(),
            op_type: Some(node.op().to_owned()),
            attribute: node.attributes.iter().map(|(name, value)| plain_attribute(name, value)).collect(),
            ..NodeProto::default()
        };
        let constant = |(id, tensor): (&ValueId, &Tensor)| {
            let mut proto = tensor.to_proto();
            proto.name = Some(name(*id));
            proto
        };
        let graph = GraphProto {
            node: self.nodes.iter().map(node).collect(),
            name: Some("policy".to_owned()),
            initializer: self.constants.iter().map(constant).collect(),
            input: vec![value_info(INPUT, elem::FLOAT, &[Dim::Batch, Dim::Fixed(self.obs_dim)])],
            output: vec![value_info(OUTPUT, shapes.output.elem, &shapes.output.shape)],
            ..GraphProto::default()
        };
        let opset = proto::OperatorSetIdProto { domain: Some(String::new()), version: Some(self.opset) };
        let model = ModelProto {
            // A plain file uses nothing newer than this, so every runtime of the last years reads it.
            ir_version: Some(8),
            opset_import: vec![opset],
            producer_name: Some("waag".to_owned()),
            graph: Some(graph),
            ..ModelProto::default()
        };
        model.encode_to_vec()
    }
}

/// Checks the versions and returns that of the standard operator set.
fn versions(model: &ModelProto) -> Result<i64, Fault> {
    let refuse = |what: &str, seen: i64, least: i64, most: i64| {
        Err(codes::ONNX_VERSION.because(format!("{what} is {seen}; supported are {least} to {most}")))
    };
    let format = model.ir_version.unwrap_or(0);
    if !(limits::ONNX_IR_MIN..=limits::ONNX_IR_MAX).contains(&format) {
        return refuse("ir_version", format, limits::ONNX_IR_MIN, limits::ONNX_IR_MAX);
    }
    let standard = |set: &&proto::OperatorSetIdProto| is_standard(set.domain.as_deref());
    let versions: Vec<_> = model.opset_import.iter().filter(standard).filter_map(|set| set.version).collect();
    let [opset] = versions[..] else {
        return Err(
            codes::ONNX_VERSION.because(format!("the standard operator set is imported {} times", versions.len()))
        );
    };
    if !(limits::ONNX_OPSET_MIN..=limits::ONNX_OPSET_MAX).contains(&opset) {
        return refuse("the operator set", opset, limits::ONNX_OPSET_MIN, limits::ONNX_OPSET_MAX);
    }
    Ok(opset)
}

/// Whether a domain is the standard one, under either of its names.
pub(super) fn is_standard(domain: Option<&str>) -> bool {
    matches!(domain, None | Some("" | "ai.onnx"))
}

/// Numbers the values and gathers the constants.
struct Builder {
    graph: Graph,
    ids: HashMap<String, ValueId>,
    /// Inputs other than the observation: they have no value, so nothing of use may read them.
    unfed: BTreeSet<ValueId>,
}

impl Builder {
    fn new(opset: i64, model: &ModelProto, graph: &GraphProto) -> Result<Self, Fault> {
        let producer: String = model.producer_name.as_deref().unwrap_or("").chars().take(40).collect();
        let (input_name, obs_dim) = observation(graph)?;
        let built = Graph {
            opset,
            producer,
            output_name: chosen_output(graph)?,
            obs_dim,
            constants: BTreeMap::new(),
            nodes: Vec::new(),
            output: INPUT_ID,
            values: 0,
            input_name: input_name.clone(),
        };
        let mut builder = Self { graph: built, ids: HashMap::new(), unfed: BTreeSet::new() };
        builder.make(&input_name)?;
        Ok(builder)
    }

    fn make(&mut self, name: &str) -> Result<ValueId, Fault> {
        let id = self.graph.values;
        if self.ids.insert(name.to_owned(), id).is_some() {
            return Err(codes::ONNX_GRAPH.because(format!("the value {} is made twice", quoted(name))));
        }
        self.graph.values += 1;
        Ok(id)
    }

    fn build(mut self, graph: &GraphProto, nodes: &[NodeProto]) -> Result<Graph, Fault> {
        for tensor in &graph.initializer {
            let id = self.make(tensor.name.as_deref().unwrap_or(""))?;
            self.graph.constants.insert(id, Tensor::read(tensor)?);
        }
        for input in &graph.input {
            let name = input.name.as_deref().unwrap_or("");
            if !self.ids.contains_key(name) {
                let id = self.make(name)?;
                self.unfed.insert(id);
            }
        }
        for (at, node) in nodes.iter().enumerate() {
            self.node(node, at)?;
        }
        let Some(output) = self.ids.get(&self.graph.output_name) else {
            let name = quoted(&self.graph.output_name);
            return Err(codes::ONNX_GRAPH.because(format!("nothing makes the output {name}")));
        };
        self.graph.output = *output;
        self.drop_unused()?;
        Ok(self.graph)
    }

    fn node(&mut self, node: &NodeProto, at: usize) -> Result<(), Fault> {
        let op_type = node.op_type.as_deref().unwrap_or("");
        let attributes = attributes(node, at)?;
        if op_type == "Constant" {
            return self.constant(node, &attributes, at);
        }
        let operator = allowed(op_type, self.graph.opset, at)?;
        check_ports(operator, node, &attributes, at)?;
        let mut inputs = Vec::with_capacity(node.input.len());
        for name in &node.input {
            inputs.push(match name.as_str() {
                "" => None,
                name => Some(*self.ids.get(name).ok_or_else(|| {
                    let name = quoted(name);
                    codes::ONNX_GRAPH.because(format!("node {at} (`{op_type}`) reads {name} before it is made"))
                })?),
            });
        }
        let mut outputs = Vec::with_capacity(node.output.len());
        for name in &node.output {
            outputs.push(self.make(name)?);
        }
        self.graph.nodes.push(Node { operator, inputs, outputs, attributes });
        Ok(())
    }

    /// A `Constant` node is a constant by another name.
    fn constant(&mut self, node: &NodeProto, attributes: &BTreeMap<String, Attribute>, at: usize) -> Result<(), Fault> {
        let wrong = || codes::ONNX_ATTRIBUTE.because(format!("node {at} (`Constant`) has no dense numeric value"));
        let ([name], [], Some((key, value)), 1) =
            (&node.output[..], &node.input[..], attributes.first_key_value(), attributes.len())
        else {
            return Err(wrong());
        };
        let tensor = match (key.as_str(), value) {
            ("value", Attribute::Tensor(tensor)) => tensor.clone(),
            ("value_float", Attribute::Float(value)) => Tensor::of_floats(&[], &[*value]),
            ("value_floats", Attribute::Floats(values)) => Tensor::of_floats(&[values.len() as u64], values),
            ("value_int", Attribute::Int(value)) => Tensor { dims: Vec::new(), ..Tensor::of_ints(&[*value]) },
            ("value_ints", Attribute::Ints(values)) => Tensor::of_ints(values),
            _ => return Err(wrong()),
        };
        let id = self.make(name)?;
        self.graph.constants.insert(id, tensor);
        Ok(())
    }

    /// Drops what the output does not need and says what is then missing.
    fn drop_unused(&mut self) -> Result<(), Fault> {
        let used = self.graph.prune();
        let graph = &self.graph;
        if let Some(id) = self.unfed.iter().find(|id| used.contains(*id)) {
            let name = self.ids.iter().find(|(_, other)| *other == id).map_or("", |(name, _)| name);
            return Err(codes::ONNX_INPUT.because(format!("the policy needs a second input, {}", quoted(name))));
        }
        if !used.contains(&INPUT_ID) {
            return Err(codes::ONNX_OUTPUT.because("the output does not depend on the observation"));
        }
        if graph.nodes.is_empty() {
            return Err(codes::ONNX_OUTPUT.because("the output is the observation itself"));
        }
        if graph.nodes.len() > limits::ONNX_NODES {
            let (nodes, limit) = (graph.nodes.len(), limits::ONNX_NODES);
            return Err(codes::ONNX_TOO_COMPLEX.because(format!("{nodes} nodes; the limit is {limit}")));
        }
        Ok(())
    }
}

/// The name and width of the observation among the graph's inputs.
fn observation(graph: &GraphProto) -> Result<(String, u64), Fault> {
    let constants: BTreeSet<_> = graph.initializer.iter().filter_map(|tensor| tensor.name.as_deref()).collect();
    let fed: Vec<_> =
        graph.input.iter().filter(|input| !constants.contains(input.name.as_deref().unwrap_or(""))).collect();
    let named = || INPUT_NAMES.iter().find_map(|name| fed.iter().find(|input| input.name.as_deref() == Some(name)));
    let chosen = match fed[..] {
        [only] => Some(only),
        _ => named().copied(),
    };
    let Some(input) = chosen else {
        let count = fed.len();
        return Err(codes::ONNX_INPUT.because(format!("{count} inputs, of which none is named `observation` or `obs`")));
    };
    let name = input.name.clone().unwrap_or_default();
    let refuse = |why: String| Err(codes::ONNX_INPUT.because(format!("the input {} {why}", quoted(&name))));
    let Some(proto::TypeValue::Tensor(tensor)) = input.r#type.as_ref().and_then(|kind| kind.value.as_ref()) else {
        return refuse("is not a tensor".to_owned());
    };
    if tensor.elem_type != Some(elem::FLOAT) {
        return refuse(format!("has elements of type {}, not float32", tensor.elem_type.unwrap_or(0)));
    }
    let dims = tensor.shape.as_ref().map_or(&[][..], |shape| &shape.dim[..]);
    let [batch, width] = dims else {
        return refuse(format!("has {} dimensions, not 2", dims.len()));
    };
    if let Some(proto::DimensionValue::Value(rows)) = batch.value {
        return refuse(format!("takes exactly {rows} observations at a time, not any number N"));
    }
    match width.value {
        Some(proto::DimensionValue::Value(width @ 1..=4096)) => Ok((name, width.unsigned_abs())),
        _ => refuse("does not say how wide an observation is".to_owned()),
    }
}

fn chosen_output(graph: &GraphProto) -> Result<String, Fault> {
    let names: Vec<_> = graph.output.iter().map(|output| output.name.as_deref().unwrap_or("")).collect();
    if let [only] = names[..] {
        return Ok(only.to_owned());
    }
    let known: Vec<_> = names.iter().filter(|name| OUTPUT_NAMES.contains(name)).collect();
    match known[..] {
        [one] => Ok((*one).to_owned()),
        _ => {
            let wanted = OUTPUT_NAMES.map(quoted).join(", ");
            Err(codes::ONNX_OUTPUT.because(format!("{} outputs, of which not one is named {wanted}", names.len())))
        }
    }
}

fn allowed(op_type: &str, opset: i64, at: usize) -> Result<&'static Operator, Fault> {
    if ops::ACROSS_ROWS.contains(&op_type) {
        return Err(codes::ONNX_BATCH.because(format!("node {at} (`{op_type}`) looks at all rows of a batch together")));
    }
    let Some(operator) = ops::find(op_type) else {
        return Err(codes::ONNX_OPERATOR.because(format!("node {at} is {}", quoted(op_type))));
    };
    if operator.since > opset {
        let since = operator.since;
        return Err(
            codes::ONNX_OPERATOR.because(format!("node {at} (`{op_type}`) needs operator set {since}, not {opset}"))
        );
    }
    Ok(operator)
}

fn check_ports(
    operator: &Operator,
    node: &NodeProto,
    attributes: &BTreeMap<String, Attribute>,
    at: usize,
) -> Result<(), Fault> {
    let refuse = |why: String| Err(codes::ONNX_ATTRIBUTE.because(format!("node {at} (`{}`) {why}", operator.name)));
    let (least, most) = operator.inputs;
    if !(least..=most).contains(&node.input.len()) || node.input.iter().take(least).any(String::is_empty) {
        return refuse(format!("has {} inputs; it takes {least} to {most}", node.input.len()));
    }
    if node.output.is_empty() || node.output.iter().any(String::is_empty) || node.output.len() > operator.outputs {
        return refuse(format!(
            "has {} outputs; it makes 1 to {}, each with a name",
            node.output.len(),
            operator.outputs
        ));
    }
    match attributes.keys().find(|name| !operator.attributes.contains(&name.as_str())) {
        Some(name) => refuse(format!("has an attribute {}", quoted(name))),
        None => Ok(()),
    }
}

fn attributes(node: &NodeProto, at: usize) -> Result<BTreeMap<String, Attribute>, Fault> {
    let op_type = node.op_type.as_deref().unwrap_or("");
    let mut found = BTreeMap::new();
    for proto in &node.attribute {
        let name = proto.name.clone().unwrap_or_default();
        let wrong = || {
            let name = quoted(&name);
            codes::ONNX_ATTRIBUTE.because(format!("node {at} ({}): the attribute {name} is wrong", quoted(op_type)))
        };
        if proto.ref_attr_name.as_deref().is_some_and(|name| !name.is_empty()) {
            return Err(wrong());
        }
        let value = match proto.r#type.unwrap_or(attribute::UNDEFINED) {
            attribute::FLOAT => Attribute::Float(proto.f.unwrap_or_default()),
            attribute::INT => Attribute::Int(proto.i.unwrap_or_default()),
            attribute::STRING => {
                let text = String::from_utf8(proto.s.clone().unwrap_or_default()).map_err(|_source| wrong())?;
                Attribute::Text(text)
            }
            attribute::TENSOR => Attribute::Tensor(Tensor::read(proto.t.as_ref().ok_or_else(wrong)?)?),
            attribute::FLOATS => Attribute::Floats(proto.floats.clone()),
            attribute::INTS => Attribute::Ints(proto.ints.clone()),
            _ => return Err(wrong()),
        };
        if found.insert(name.clone(), value).is_some() {
            return Err(wrong());
        }
    }
    Ok(found)
}

fn plain_attribute(name: &str, value: &Attribute) -> AttributeProto {
    let mut proto = AttributeProto { name: Some(name.to_owned()), ..AttributeProto::default() };
    let kind = match value {
        Attribute::Float(value) => {
            proto.f = Some(*value);
            attribute::FLOAT
        }
        Attribute::Int(value) => {
            proto.i = Some(*value);
            attribute::INT
        }
        Attribute::Text(value) => {
            proto.s = Some(value.clone().into_bytes());
            attribute::STRING
        }
        Attribute::Tensor(value) => {
            proto.t = Some(value.to_proto());
            attribute::TENSOR
        }
        Attribute::Floats(values) => {
            proto.floats.clone_from(values);
            attribute::FLOATS
        }
        Attribute::Ints(values) => {
            proto.ints.clone_from(values);
            attribute::INTS
        }
    };
    proto.r#type = Some(kind);
    proto
}

fn value_info(name: &str, elem_type: i32, shape: &[Dim]) -> proto::ValueInfoProto {
    let dimension = |dim: &Dim| proto::Dimension {
        value: Some(match dim {
            Dim::Batch => proto::DimensionValue::Param("N".to_owned()),
            // Extents are bounded by the limit on elements.
            Dim::Fixed(extent) => proto::DimensionValue::Value(i64::try_from(*extent).unwrap_or(i64::MAX)),
        }),
        denotation: None,
    };
    let shape = proto::TensorShapeProto { dim: shape.iter().map(dimension).collect() };
    let tensor = proto::TensorType { elem_type: Some(elem_type), shape: Some(shape) };
    let kind = proto::TypeProto { value: Some(proto::TypeValue::Tensor(tensor)), denotation: None };
    proto::ValueInfoProto { name: Some(name.to_owned()), r#type: Some(kind), ..Default::default() }
}
