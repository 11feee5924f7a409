//! Constant tensors in one form: type, shape, and little-endian bytes that match them.
//!
//! Owns the two ways an ONNX file stores elements and makes them one. Refuses external data, text and types outside of
//! floats, integers and truth values. The other files of `onnx` and `dedup` use it.

use super::proto::{LOCATION_EXTERNAL, TensorProto, elem};
use crate::{
    artifact::{codes, codes::quoted, limits},
    fault::Fault,
};

/// A dense constant. `bytes.len()` is always elements × width.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Element type (see [`elem`]).
    pub elem: i32,
    /// Extents; empty for a scalar.
    pub dims: Vec<u64>,
    /// Elements, row major, little endian; truth values are one byte, 0 or 1.
    pub bytes: Vec<u8>,
}

/// Bytes of one element, or `None` for a type that policies may not use.
#[must_use]
pub const fn width(elem_type: i32) -> Option<usize> {
    Some(match elem_type {
        elem::BOOL | elem::INT8 | elem::UINT8 => 1,
        elem::FLOAT16 | elem::BFLOAT16 | elem::INT16 | elem::UINT16 => 2,
        elem::FLOAT | elem::INT32 | elem::UINT32 => 4,
        elem::DOUBLE | elem::INT64 | elem::UINT64 => 8,
        _ => return None,
    })
}

/// Whether the type is one of the floats.
#[must_use]
pub const fn is_float(elem_type: i32) -> bool {
    matches!(elem_type, elem::FLOAT | elem::FLOAT16 | elem::BFLOAT16 | elem::DOUBLE)
}

impl Tensor {
    /// A vector of 64-bit integers.
    #[must_use]
    pub fn of_ints(values: &[i64]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { elem: elem::INT64, dims: vec![values.len() as u64], bytes }
    }

    /// Floats of this shape.
    #[must_use]
    pub fn of_floats(dims: &[u64], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { elem: elem::FLOAT, dims: dims.to_vec(), bytes }
    }

    /// Reads a tensor of the file.
    ///
    /// # Errors
    /// A miner's fault for external data, a type that is not allowed, or bytes that do not match shape and type.
    pub fn read(proto: &TensorProto) -> Result<Self, Fault> {
        let name = quoted(proto.name.as_deref().unwrap_or(""));
        if proto.data_location == Some(LOCATION_EXTERNAL) || !proto.external_data.is_empty() {
            return Err(codes::ONNX_EXTERNAL_DATA.because(format!("the constant {name} lies outside of the file")));
        }
        let wrong = |why: String| codes::ONNX_TENSOR.because(format!("the constant {name} {why}"));
        if proto.segment.is_some() {
            return Err(wrong("is a segment of a larger one".to_owned()));
        }
        let elem_type = proto.data_type.unwrap_or(0);
        let Some(width) = width(elem_type) else {
            return Err(wrong(format!("has elements of type {elem_type}")));
        };
        if proto.dims.len() > limits::ONNX_RANK {
            return Err(wrong(format!("has {} dimensions; the limit is {}", proto.dims.len(), limits::ONNX_RANK)));
        }
        let dims: Option<Vec<u64>> = proto.dims.iter().map(|dim| u64::try_from(*dim).ok()).collect();
        let dims = dims.ok_or_else(|| wrong("has a negative extent".to_owned()))?;
        let wanted = dims
            .iter()
            .try_fold(width as u64, |product, dim| product.checked_mul(*dim))
            .ok_or_else(|| wrong("has a size beyond all bounds".to_owned()))?;
        let mut bytes =
            elements(proto, elem_type).ok_or_else(|| wrong("keeps its elements in the wrong list".to_owned()))?;
        if bytes.len() as u64 != wanted {
            return Err(wrong(format!("has {} bytes; its shape and type ask for {wanted}", bytes.len())));
        }
        if elem_type == elem::BOOL {
            bytes.iter_mut().for_each(|byte| *byte = u8::from(*byte != 0));
        }
        let tensor = Self { elem: elem_type, dims, bytes };
        if tensor.floats().is_some_and(|values| values.iter().any(|value| value.is_nan())) {
            return Err(wrong("holds something that is not a number".to_owned()));
        }
        Ok(tensor)
    }

    /// How many elements there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.dims.iter().product()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The elements of a float tensor, whatever its width; `None` for other types.
    #[must_use]
    pub fn floats(&self) -> Option<Vec<f64>> {
        let bytes = &self.bytes;
        Some(match self.elem {
            elem::FLOAT => bytes.as_chunks().0.iter().map(|c| f64::from(f32::from_le_bytes(*c))).collect(),
            elem::DOUBLE => bytes.as_chunks().0.iter().map(|c| f64::from_le_bytes(*c)).collect(),
            elem::FLOAT16 => bytes.as_chunks().0.iter().map(|c| half(u16::from_le_bytes(*c))).collect(),
            elem::BFLOAT16 => {
                let widened = |c: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*c)) << 16);
                bytes.as_chunks().0.iter().map(|c| f64::from(widened(c))).collect()
            }
            _ => return None,
        })
    }

    /// The elements of a small integer or truth-value tensor; `None` for other types or too many elements.
    #[must_use]
    pub fn ints(&self, most: usize) -> Option<Vec<i64>> {
        if self.len() > most as u64 {
            return None;
        }
        let bytes = &self.bytes;
        Some(match self.elem {
            elem::INT64 => bytes.as_chunks().0.iter().map(|c| i64::from_le_bytes(*c)).collect(),
            elem::INT32 => bytes.as_chunks().0.iter().map(|c| i64::from(i32::from_le_bytes(*c))).collect(),
            elem::BOOL => bytes.iter().map(|byte| i64::from(*byte)).collect(),
            _ => return None,
        })
    }

    /// The tensor as the file format writes it, without a name.
    #[must_use]
    pub fn to_proto(&self) -> TensorProto {
        TensorProto {
            // Extents came from non-negative 64-bit numbers.
            dims: self.dims.iter().map(|dim| i64::try_from(*dim).unwrap_or(i64::MAX)).collect(),
            data_type: Some(self.elem),
            raw_data: Some(self.bytes.clone()),
            ..TensorProto::default()
        }
    }
}

/// The elements as bytes, from `raw_data` or from the one list that the type allows; `None` if any other is filled.
fn elements(proto: &TensorProto, elem_type: i32) -> Option<Vec<u8>> {
    let lists = [
        proto.float_data.len(),
        proto.int32_data.len(),
        proto.int64_data.len(),
        proto.double_data.len(),
        proto.uint64_data.len(),
        proto.string_data.len(),
        proto.raw_data.as_ref().map_or(0, Vec::len),
    ];
    if lists.iter().filter(|len| **len > 0).count() > 1 {
        return None;
    }
    if let Some(raw) = proto.raw_data.as_ref().filter(|raw| !raw.is_empty()) {
        return Some(raw.clone());
    }
    let filled = lists.iter().sum::<usize>();
    let (bytes, taken): (Option<Vec<u8>>, usize) = match elem_type {
        elem::FLOAT => (Some(proto.float_data.iter().flat_map(|v| v.to_le_bytes()).collect()), proto.float_data.len()),
        elem::DOUBLE => {
            (Some(proto.double_data.iter().flat_map(|v| v.to_le_bytes()).collect()), proto.double_data.len())
        }
        elem::INT64 => (Some(proto.int64_data.iter().flat_map(|v| v.to_le_bytes()).collect()), proto.int64_data.len()),
        elem::UINT64 => {
            (Some(proto.uint64_data.iter().flat_map(|v| v.to_le_bytes()).collect()), proto.uint64_data.len())
        }
        elem::UINT32 => {
            let narrow = proto.uint64_data.iter().map(|v| u32::try_from(*v).ok().map(u32::to_le_bytes));
            (narrow.collect::<Option<Vec<_>>>().map(|v| v.concat()), proto.uint64_data.len())
        }
        _ => (narrow(&proto.int32_data, elem_type), proto.int32_data.len()),
    };
    bytes.filter(|_| taken == filled)
}

/// Small types are written as 32-bit numbers; one that does not fit its type is refused.
fn narrow(values: &[i32], elem_type: i32) -> Option<Vec<u8>> {
    let each = |value: &i32| -> Option<Vec<u8>> {
        Some(match elem_type {
            elem::INT32 => value.to_le_bytes().to_vec(),
            elem::INT8 => i8::try_from(*value).ok()?.to_le_bytes().to_vec(),
            elem::INT16 => i16::try_from(*value).ok()?.to_le_bytes().to_vec(),
            elem::UINT8 | elem::BOOL => u8::try_from(*value).ok()?.to_le_bytes().to_vec(),
            elem::UINT16 | elem::FLOAT16 | elem::BFLOAT16 => u16::try_from(*value).ok()?.to_le_bytes().to_vec(),
            _ => return None,
        })
    };
    values.iter().map(each).collect::<Option<Vec<_>>>().map(|v| v.concat())
}

/// IEEE half precision, widened.
fn half(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from((bits >> 10) & 0x1f);
    let fraction = f64::from(bits & 0x3ff) / 1024.0;
    match (exponent, bits & 0x3ff) {
        (0, _) => sign * fraction * 2.0_f64.powi(-14),
        (31, 0) => sign * f64::INFINITY,
        (31, _) => f64::NAN,
        _ => sign * (1.0 + fraction) * 2.0_f64.powi(exponent - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proto(data_type: i32, dims: &[i64]) -> TensorProto {
        TensorProto { dims: dims.to_vec(), data_type: Some(data_type), ..TensorProto::default() }
    }

    fn code(proto: &TensorProto) -> String {
        Tensor::read(proto).expect_err("a fault").code
    }

    #[test]
    fn both_ways_of_storing_floats_are_one() {
        let list = TensorProto { float_data: vec![1.5, -2.0], ..proto(elem::FLOAT, &[2]) };
        let raw =
            TensorProto { raw_data: Some([1.5_f32, -2.0].map(f32::to_le_bytes).concat()), ..proto(elem::FLOAT, &[2]) };
        let tensor = Tensor::read(&list).expect("list");
        assert_eq!(tensor, Tensor::read(&raw).expect("raw"));
        assert_eq!(tensor.floats(), Some(vec![1.5, -2.0]));
        assert_eq!(Tensor::read(&tensor.to_proto()), Ok(tensor));
    }

    #[test]
    fn halves_are_widened() {
        let bits = [0x3c00, 0xc000, 0x0001, 0x7bff, 0x7c00, 0x3555];
        let list = TensorProto { int32_data: bits.to_vec(), ..proto(elem::FLOAT16, &[6]) };
        let floats = Tensor::read(&list).expect("halves").floats().expect("floats");
        assert_eq!(floats, vec![1.0, -2.0, 5.960_464_477_539_063e-8, 65504.0, f64::INFINITY, 0.333_251_953_125]);
    }

    #[test]
    fn size_and_type_must_match() {
        let raw = |bytes: usize, data_type, dims: &[i64]| TensorProto {
            raw_data: Some(vec![0; bytes]),
            ..proto(data_type, dims)
        };
        assert!(Tensor::read(&raw(8, elem::FLOAT, &[2])).is_ok());
        assert!(Tensor::read(&raw(4, elem::FLOAT, &[])).is_ok());
        assert!(Tensor::read(&raw(0, elem::FLOAT, &[0])).is_ok());
        for wrong in [
            raw(7, elem::FLOAT, &[2]),
            raw(9, elem::FLOAT, &[2]),
            raw(0, elem::FLOAT, &[1]),
            raw(4, elem::FLOAT, &[-1]),
            raw(4, elem::FLOAT, &[i64::MAX, i64::MAX]),
            raw(4, elem::STRING, &[1]),
            raw(8, 14, &[1]),
            raw(1, 17, &[1]),
            raw(4, 0, &[1]),
            raw(4, elem::FLOAT, &[1; limits::ONNX_RANK + 1]),
            TensorProto { float_data: vec![1.0], ..raw(4, elem::FLOAT, &[1]) },
            TensorProto { int64_data: vec![1], ..proto(elem::FLOAT, &[1]) },
            TensorProto { int32_data: vec![300], ..proto(elem::INT8, &[1]) },
            TensorProto { float_data: vec![f32::NAN], ..proto(elem::FLOAT, &[1]) },
        ] {
            assert_eq!(code(&wrong), "onnx_tensor", "{wrong:?}");
        }
        assert!(Tensor::read(&raw(4, elem::FLOAT, &[1; limits::ONNX_RANK])).is_ok());
    }

    #[test]
    fn external_data_is_named() {
        let outside = TensorProto { data_location: Some(LOCATION_EXTERNAL), ..proto(elem::FLOAT, &[1]) };
        assert_eq!(code(&outside), "onnx_external_data");
        let hinted = TensorProto { external_data: vec![Default::default()], float_data: vec![1.0], ..proto(1, &[1]) };
        assert_eq!(code(&hinted), "onnx_external_data");
    }
}
