//! Values on their way into SCALE: plain words whose exact bytes the metadata decides.
//!
//! Owns the few shapes that events, errors and answers are built from. Refuses to know any of them: names and order
//! of fields come from the type they are encoded as. Only `devnet/` uses it.

use scale_encode::{Composite, CompositeField, EncodeAsType, Error, TypeResolver, Variant};

/// A value without a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Datum {
    /// A truth value.
    Bool(bool),
    /// Any unsigned number; the type decides its width and whether it is compact.
    Num(u128),
    /// Bytes, of fixed length or not.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Datum>),
    /// A tuple.
    Tuple(Vec<Datum>),
    /// A structure; the fields are matched by name.
    Struct(Vec<(&'static str, Datum)>),
    /// A variant of an enum with fields by name or by position.
    Variant(String, Vec<(Option<&'static str>, Datum)>),
    /// SCALE bytes of exactly the wanted type.
    Encoded(Vec<u8>),
}

impl Datum {
    /// An account or a hash.
    pub fn account(bytes: &[u8; 32]) -> Self {
        Self::Bytes(bytes.to_vec())
    }

    /// A variant without fields.
    pub fn unit(name: &str) -> Self {
        Self::Variant(name.to_owned(), Vec::new())
    }

    /// A variant with fields by position.
    pub fn tuple(name: &str, fields: Vec<Self>) -> Self {
        Self::Variant(name.to_owned(), fields.into_iter().map(|field| (None, field)).collect())
    }

    /// A variant with fields by name.
    pub fn named(name: &str, fields: Vec<(&'static str, Self)>) -> Self {
        Self::Variant(name.to_owned(), fields.into_iter().map(|(name, field)| (Some(name), field)).collect())
    }

    /// `Some` or `None`.
    pub fn option(value: Option<Self>) -> Self {
        match value {
            Some(value) => Self::tuple("Some", vec![value]),
            None => Self::unit("None"),
        }
    }

    /// A list of numbers.
    pub fn numbers<N: Into<u128>>(values: impl IntoIterator<Item = N>) -> Self {
        Self::List(values.into_iter().map(|value| Self::Num(value.into())).collect())
    }
}

impl EncodeAsType for Datum {
    fn encode_as_type_to<R: TypeResolver>(&self, id: R::TypeId, types: &R, out: &mut Vec<u8>) -> Result<(), Error> {
        match self {
            Self::Bool(value) => value.encode_as_type_to(id, types, out),
            Self::Num(value) => value.encode_as_type_to(id, types, out),
            Self::Bytes(value) => value.encode_as_type_to(id, types, out),
            Self::List(values) => values.encode_as_type_to(id, types, out),
            Self::Encoded(bytes) => {
                out.extend_from_slice(bytes);
                Ok(())
            }
            Self::Tuple(fields) => {
                let fields = fields.iter().map(|value| (None, CompositeField::new(value)));
                Composite::<R, _>::new(fields).encode_composite_as_type_to(id, types, out)
            }
            Self::Struct(fields) => {
                let fields = fields.iter().map(|(name, value)| (Some(*name), CompositeField::new(value)));
                Composite::<R, _>::new(fields).encode_composite_as_type_to(id, types, out)
            }
            Self::Variant(name, fields) => {
                let fields = fields.iter().map(|(name, value)| (*name, CompositeField::new(value)));
                Variant { name, fields: Composite::<R, _>::new(fields) }.encode_variant_as_type_to(id, types, out)
            }
        }
    }
}
