//! Types and shapes of values in an ONNX file.
//!
//! Owns the messages under `TypeProto` as they stand in the schema. Refuses to judge them, as the rest of the schema
//! does. `proto`, which it is part of, hands them on.

use prost::{Message, Oneof};

/// The type of a value.
#[derive(Clone, PartialEq, Message)]
pub struct TypeProto {
    /// Which type.
    #[prost(oneof = "TypeValue", tags = "1, 4, 5, 9, 8, 7")]
    pub value: Option<TypeValue>,
    /// What it means.
    #[prost(string, optional, tag = "6")]
    pub denotation: Option<String>,
}

/// The kinds of type.
#[derive(Clone, PartialEq, Oneof)]
pub enum TypeValue {
    /// A dense tensor.
    #[prost(message, tag = "1")]
    Tensor(TensorType),
    /// A list of values.
    #[prost(message, tag = "4")]
    Sequence(Box<ElementType>),
    /// A map.
    #[prost(message, tag = "5")]
    Map(Box<MapType>),
    /// A value or nothing.
    #[prost(message, tag = "9")]
    Optional(Box<ElementType>),
    /// A sparse tensor.
    #[prost(message, tag = "8")]
    SparseTensor(TensorType),
    /// Something the format does not describe.
    #[prost(message, tag = "7")]
    Opaque(OpaqueType),
}

/// `TypeProto.Tensor` and `TypeProto.SparseTensor`.
#[derive(Clone, PartialEq, Message)]
pub struct TensorType {
    /// Element type (see [`elem`](super::elem)).
    #[prost(int32, optional, tag = "1")]
    pub elem_type: Option<i32>,
    /// Shape, if anything is known of it.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShapeProto>,
}

/// `TypeProto.Sequence` and `TypeProto.Optional`.
#[derive(Clone, PartialEq, Message)]
pub struct ElementType {
    /// The type of what is inside.
    #[prost(message, optional, boxed, tag = "1")]
    pub elem_type: Option<Box<TypeProto>>,
}

/// `TypeProto.Map`.
#[derive(Clone, PartialEq, Message)]
pub struct MapType {
    /// Element type of the keys.
    #[prost(int32, optional, tag = "1")]
    pub key_type: Option<i32>,
    /// Type of the values.
    #[prost(message, optional, boxed, tag = "2")]
    pub value_type: Option<Box<TypeProto>>,
}

/// `TypeProto.Opaque`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct OpaqueType {
    /// Its domain.
    #[prost(string, optional, tag = "1")]
    pub domain: Option<String>,
    /// Its name.
    #[prost(string, optional, tag = "2")]
    pub name: Option<String>,
}

/// A shape.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TensorShapeProto {
    /// One entry for each dimension.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dimension>,
}

/// One dimension of a shape.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Dimension {
    /// A number, a name, or unknown.
    #[prost(oneof = "DimensionValue", tags = "1, 2")]
    pub value: Option<DimensionValue>,
    /// What it means.
    #[prost(string, optional, tag = "3")]
    pub denotation: Option<String>,
}

/// A number or a name.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum DimensionValue {
    /// A fixed extent.
    #[prost(int64, tag = "1")]
    Value(i64),
    /// A name for an extent that is known only when the model runs.
    #[prost(string, tag = "2")]
    Param(String),
}
