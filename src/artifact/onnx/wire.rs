//! The wire scan: one pass over an ONNX file before it is decoded.
//!
//! Owns the schema's field numbers and what may be counted without decoding: nesting, messages, texts, numbers.
//! Refuses to build anything, so a hostile file costs no memory here. Only `onnx::read` calls it.
//!
//! It also refuses what two decoders could read differently: fields outside of the schema, single fields written twice,
//! two members of a choice, groups, and over-long numbers.

use crate::{
    artifact::{codes, limits},
    fault::Fault,
};

/// The messages of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Schema {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Segment,
    Sparse,
    ValueInfo,
    Type,
    TensorType,
    ElementType,
    MapType,
    OpaqueType,
    Shape,
    Dimension,
    OperatorSet,
    Entry,
    Annotation,
    Function,
    Training,
    Device,
    NodeDevice,
    Sharding,
    IntList,
    ShardedDim,
    SimpleSharding,
}

/// What stands in a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    /// One number.
    Number,
    /// One 32-bit float.
    Float,
    /// One text or byte string.
    Text,
    /// One message.
    One(Schema),
    /// One of several fields of which at most one may be written.
    Choice(Schema),
    /// One number among such a choice.
    ChoiceNumber,
    /// One text among such a choice.
    ChoiceText,
    /// Numbers, one by one or packed.
    Numbers,
    /// 32-bit floats, one by one or packed.
    Floats,
    /// 64-bit floats, one by one or packed.
    Doubles,
    /// Texts or byte strings.
    Texts,
    /// Messages.
    Many(Schema),
}

/// The field of this number in this message, or `None` where the schema has none.
#[rustfmt::skip] // A table.
const fn field(schema: Schema, number: u32) -> Option<Field> {
    use Field::{Choice, ChoiceNumber, ChoiceText, Doubles, Float, Floats, Many, Number, Numbers, One, Text, Texts};
    use Schema as S;
    Some(match (schema, number) {
        (S::Model, 1 | 5) => Number,
        (S::Model, 2 | 3 | 4 | 6) => Text,
        (S::Model, 7) => One(S::Graph),
        (S::Model, 8) => Many(S::OperatorSet),
        (S::Model, 14) => Many(S::Entry),
        (S::Model, 20) => Many(S::Training),
        (S::Model, 25) => Many(S::Function),
        (S::Model, 26) => Many(S::Device),
        (S::Graph, 1) => Many(S::Node),
        (S::Graph, 2 | 10) => Text,
        (S::Graph, 5) => Many(S::Tensor),
        (S::Graph, 11..=13) => Many(S::ValueInfo),
        (S::Graph, 14) => Many(S::Annotation),
        (S::Graph, 15) => Many(S::Sparse),
        (S::Graph, 16) => Many(S::Entry),
        (S::Node, 1 | 2) => Texts,
        (S::Node, 3 | 4 | 6 | 7 | 8) => Text,
        (S::Node, 5) => Many(S::Attribute),
        (S::Node, 9) => Many(S::Entry),
        (S::Node, 10) => Many(S::NodeDevice),
        (S::Attribute, 1 | 4 | 13 | 21) => Text,
        (S::Attribute, 2) => Float,
        (S::Attribute, 3 | 20) => Number,
        (S::Attribute, 5) => One(S::Tensor),
        (S::Attribute, 6) => One(S::Graph),
        (S::Attribute, 7) => Floats,
        (S::Attribute, 8) => Numbers,
        (S::Attribute, 9) => Texts,
        (S::Attribute, 10) => Many(S::Tensor),
        (S::Attribute, 11) => Many(S::Graph),
        (S::Attribute, 14) => One(S::Type),
        (S::Attribute, 15) => Many(S::Type),
        (S::Attribute, 22) => One(S::Sparse),
        (S::Attribute, 23) => Many(S::Sparse),
        (S::Tensor, 1 | 5 | 7 | 11) => Numbers,
        (S::Tensor, 2 | 14) => Number,
        (S::Tensor, 3) => One(S::Segment),
        (S::Tensor, 4) => Floats,
        (S::Tensor, 6) => Texts,
        (S::Tensor, 8 | 9 | 12) => Text,
        (S::Tensor, 10) => Doubles,
        (S::Tensor, 13 | 16) => Many(S::Entry),
        (S::Segment, 1 | 2) => Number,
        (S::Sparse, 1 | 2) => One(S::Tensor),
        (S::Sparse, 3) => Numbers,
        (S::ValueInfo, 1 | 3) => Text,
        (S::ValueInfo, 2) => One(S::Type),
        (S::ValueInfo, 4) => Many(S::Entry),
        (S::Type, 1 | 8) => Choice(S::TensorType),
        (S::Type, 4 | 9) => Choice(S::ElementType),
        (S::Type, 5) => Choice(S::MapType),
        (S::Type, 7) => Choice(S::OpaqueType),
        (S::Type, 6) => Text,
        (S::TensorType, 1) => Number,
        (S::TensorType, 2) => One(S::Shape),
        (S::ElementType, 1) => One(S::Type),
        (S::MapType, 1) => Number,
        (S::MapType, 2) => One(S::Type),
        (S::OpaqueType, 1 | 2) => Text,
        (S::Shape, 1) => Many(S::Dimension),
        (S::Dimension, 1) => ChoiceNumber,
        (S::Dimension, 2) => ChoiceText,
        (S::Dimension, 3) => Text,
        (S::OperatorSet, 1) => Text,
        (S::OperatorSet, 2) => Number,
        (S::Entry, 1 | 2) => Text,
        (S::Annotation, 1) => Text,
        (S::Annotation, 2) => Many(S::Entry),
        (S::Function, 1 | 8 | 10 | 13) => Text,
        (S::Function, 4..=6) => Texts,
        (S::Function, 7) => Many(S::Node),
        (S::Function, 9) => Many(S::OperatorSet),
        (S::Function, 11) => Many(S::Attribute),
        (S::Function, 12) => Many(S::ValueInfo),
        (S::Function, 14) => Many(S::Entry),
        (S::Training, 1 | 2) => One(S::Graph),
        (S::Training, 3 | 4) => Many(S::Entry),
        (S::Device, 1) => Text,
        (S::Device, 2) => Number,
        (S::Device, 3) => Texts,
        (S::NodeDevice, 1) => Text,
        (S::NodeDevice, 2) => Many(S::Sharding),
        (S::NodeDevice, 3) => Number,
        (S::Sharding, 1) => Text,
        (S::Sharding, 2) => Numbers,
        (S::Sharding, 3) => Many(S::IntList),
        (S::Sharding, 4) => Many(S::ShardedDim),
        (S::IntList, 1) => Number,
        (S::IntList, 2) => Numbers,
        (S::ShardedDim, 1) => Number,
        (S::ShardedDim, 2) => Many(S::SimpleSharding),
        (S::SimpleSharding, 1) => ChoiceNumber,
        (S::SimpleSharding, 2) => ChoiceText,
        (S::SimpleSharding, 3) => Number,
        _ => return None,
    })
}

const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED_32: u64 = 5;

/// What was counted so far.
#[derive(Debug, Default)]
struct Counts {
    messages: u64,
    texts: u64,
    numbers: u64,
}

/// Scans a whole file.
///
/// # Errors
/// `onnx_malformed` for bytes outside of the schema, `onnx_too_complex` beyond a limit.
pub fn scan(bytes: &[u8]) -> Result<(), Fault> {
    Scan { counts: Counts::default(), start: bytes.as_ptr() as usize }.message(bytes, Schema::Model, 0)
}

struct Scan {
    counts: Counts,
    /// Where the file begins, to say where a fault lies.
    start: usize,
}

impl Scan {
    fn message(&mut self, bytes: &[u8], schema: Schema, depth: usize) -> Result<(), Fault> {
        if depth > limits::ONNX_DEPTH {
            let limit = limits::ONNX_DEPTH;
            return Err(codes::ONNX_TOO_COMPLEX.because(format!("messages are nested more than {limit} deep")));
        }
        count(&mut self.counts.messages, 1, limits::ONNX_MESSAGES, "messages")?;
        let mut seen = 0_u64;
        let mut chosen = false;
        let mut rest = bytes;
        while !rest.is_empty() {
            let key = self.varint(&mut rest)?;
            let (number, wire) = (u32::try_from(key >> 3).unwrap_or(u32::MAX), key & 7);
            let Some(field) = field(schema, number) else {
                return Err(self.malformed(rest, &format!("field {number} of {schema:?} is not in the schema")));
            };
            // Every number in the table is below 64.
            let bit = 1 << number;
            let many = matches!(field, Field::Numbers | Field::Floats | Field::Doubles | Field::Texts | Field::Many(_));
            let choice = matches!(field, Field::Choice(_) | Field::ChoiceNumber | Field::ChoiceText);
            if (!many && seen & bit != 0) || (choice && chosen) {
                return Err(self.malformed(rest, &format!("field {number} of {schema:?} is written twice")));
            }
            seen |= bit;
            chosen |= choice;
            self.value(&mut rest, field, wire, depth)?;
        }
        Ok(())
    }

    fn value(&mut self, rest: &mut &[u8], field: Field, wire: u64, depth: usize) -> Result<(), Fault> {
        match (field, wire) {
            (Field::Number | Field::ChoiceNumber, VARINT) => self.varint(rest).map(drop),
            (Field::Numbers, VARINT) => {
                count(&mut self.counts.numbers, 1, limits::ONNX_VARINTS, "numbers")?;
                self.varint(rest).map(drop)
            }
            (Field::Float | Field::Floats, FIXED_32) => self.take(rest, 4).map(drop),
            (Field::Doubles, FIXED_64) => self.take(rest, 8).map(drop),
            (_, LENGTH) => {
                let length = self.varint(rest)?;
                let inner = self.take(rest, length)?;
                self.sized(inner, field, depth)
            }
            _ => Err(self.malformed(rest, "a field has the wrong wire type")),
        }
    }

    fn sized(&mut self, inner: &[u8], field: Field, depth: usize) -> Result<(), Fault> {
        match field {
            Field::Text | Field::Texts | Field::ChoiceText => {
                count(&mut self.counts.texts, 1, limits::ONNX_STRINGS, "texts")
            }
            Field::One(schema) | Field::Many(schema) | Field::Choice(schema) => self.message(inner, schema, depth + 1),
            Field::Floats if inner.len().is_multiple_of(4) => Ok(()),
            Field::Doubles if inner.len().is_multiple_of(8) => Ok(()),
            Field::Numbers => {
                let mut numbers = inner;
                while !numbers.is_empty() {
                    count(&mut self.counts.numbers, 1, limits::ONNX_VARINTS, "numbers")?;
                    self.varint(&mut numbers)?;
                }
                Ok(())
            }
            _ => Err(self.malformed(inner, "a field has the wrong wire type")),
        }
    }

    fn varint(&self, rest: &mut &[u8]) -> Result<u64, Fault> {
        let mut value = 0_u64;
        for (i, byte) in rest.iter().take(10).enumerate() {
            let low = u64::from(byte & 0x7f);
            // The tenth byte holds one bit.
            if i == 9 && low > 1 {
                break;
            }
            value |= low << (7 * i);
            if byte & 0x80 == 0 {
                *rest = &rest[i + 1..];
                return Ok(value);
            }
        }
        Err(self.malformed(rest, "a number is cut off or too long"))
    }

    fn take<'a>(&self, rest: &mut &'a [u8], length: u64) -> Result<&'a [u8], Fault> {
        let Some((taken, after)) = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length)) else {
            return Err(self.malformed(rest, &format!("a field of {length} bytes is cut off")));
        };
        *rest = after;
        Ok(taken)
    }

    fn malformed(&self, at: &[u8], why: &str) -> Fault {
        let offset = (at.as_ptr() as usize).saturating_sub(self.start);
        codes::ONNX_MALFORMED.because(format!("near byte {offset}: {why}"))
    }
}

fn count(counter: &mut u64, more: u64, limit: u64, what: &str) -> Result<(), Fault> {
    *counter += more;
    if *counter > limit {
        return Err(codes::ONNX_TOO_COMPLEX.because(format!("more than {limit} {what}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::artifact::onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto};

    fn code(bytes: &[u8]) -> String {
        scan(bytes).expect_err("a fault").code
    }

    #[test]
    fn what_we_encode_scans() {
        let node = NodeProto { input: vec!["a".to_owned()], op_type: Some("Tanh".to_owned()), ..Default::default() };
        let graph = GraphProto { node: vec![node], ..Default::default() };
        let model = ModelProto { ir_version: Some(-1), graph: Some(graph), ..Default::default() };
        assert_eq!(scan(&model.encode_to_vec()), Ok(()));
        assert_eq!(scan(b""), Ok(()));
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for (bytes, what) in [
            (&[0x08, 1, 0x08, 2][..], "a single field twice"),
            (&[0x7a, 0], "a field outside of the schema"),
            (&[0x0b, 0x0c], "a group"),
            (&[0x0d, 0, 0, 0, 0], "a wrong wire type"),
            (&[0x08], "a number cut off"),
            (&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], "a number too long"),
            (&[0x3a, 0x05, 0], "a message cut off"),
            (&[0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], "an absurd length"),
        ] {
            assert_eq!(code(bytes), "onnx_malformed", "{what}");
        }
    }

    #[test]
    fn nesting_and_counts_are_bounded() {
        let mut model = ModelProto { graph: Some(GraphProto::default()), ..Default::default() };
        let mut graph = GraphProto::default();
        for _ in 0..limits::ONNX_DEPTH {
            let attribute = AttributeProto { g: Some(graph), ..Default::default() };
            let node = NodeProto { attribute: vec![attribute], ..Default::default() };
            graph = GraphProto { node: vec![node], ..Default::default() };
        }
        model.graph = Some(graph);
        assert_eq!(code(&model.encode_to_vec()), "onnx_too_complex");

        // Empty nodes cost two bytes on the wire and hundreds once decoded. The model and the graph are messages too.
        let nodes = |n: u64| {
            let node = vec![NodeProto::default(); usize::try_from(n).expect("small")];
            ModelProto { graph: Some(GraphProto { node, ..Default::default() }), ..Default::default() }.encode_to_vec()
        };
        assert_eq!(scan(&nodes(limits::ONNX_MESSAGES - 2)), Ok(()));
        assert_eq!(code(&nodes(limits::ONNX_MESSAGES - 1)), "onnx_too_complex");
    }
}
