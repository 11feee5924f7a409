use proptest::prelude::*;

use super::*;

fn parse(json: &str, data_bytes: u64) -> Result<Header, Malformed> {
    Header::parse(json.as_bytes(), LENGTH_BYTES + json.len() as u64 + data_bytes)
}

fn json_error(json: &str, data_bytes: u64) -> String {
    match parse(json, data_bytes) {
        Err(Malformed::Json { why }) => why,
        other => panic!("{json}: {other:?}"),
    }
}

#[test]
fn a_header_is_read() {
    let json = r#"{"__metadata__":{"format":"pt"},
        "b":{"dtype":"F32","shape":[],"data_offsets":[12,16]},
        "a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},
        "none":{"dtype":"I64","shape":[0,7],"data_offsets":[16,16]}}   "#;
    let header = parse(json, 16).unwrap();
    let names: Vec<&str> = header.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "none"]);
    assert_eq!((header.tensors[0].elements(), header.tensors[0].bytes()), (6, 12));
    assert_eq!(header.tensors[1].elements(), 1);
    assert_eq!(header.tensors[2].elements(), 0);
    assert_eq!(header.data_bytes(), 16);
    assert_eq!(header.data_begin(), 8 + json.len() as u64);
    assert_eq!(header.metadata["format"], "pt");
    assert!(parse("{}", 0).unwrap().tensors.is_empty());
}

#[test]
fn every_type_is_in_the_table_once() {
    for (dtype, name, bits) in DTYPES {
        assert_eq!((Dtype::parse(name), dtype.as_str(), dtype.bits()), (Some(*dtype), *name, *bits));
    }
    assert_eq!(DTYPES.len(), Dtype::U64 as usize + 1);
    assert_eq!(Dtype::parse("F128"), None);
    // Two elements of four bits are a byte; one is not.
    assert!(parse(r#"{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}"#, 1).is_ok());
    assert!(matches!(
        parse(r#"{"a":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}}"#, 1),
        Err(Malformed::Span { .. })
    ));
}

#[test]
fn tensors_fill_the_file_without_overlap_or_hole() {
    let two = |a: (u64, u64), b: (u64, u64)| {
        format!(
            r#"{{"a":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}},"b":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}}}}"#,
            a.1 - a.0,
            a.0,
            a.1,
            b.1 - b.0,
            b.0,
            b.1
        )
    };
    assert!(parse(&two((0, 4), (4, 8)), 8).is_ok());
    let gap = |name: &str, begin, expected| Err(Malformed::Gap { name: name.to_owned(), begin, expected });
    assert_eq!(parse(&two((0, 4), (3, 7)), 7), gap("b", 3, 4));
    assert_eq!(parse(&two((0, 4), (5, 9)), 9), gap("b", 5, 4));
    assert_eq!(parse(&two((0, 4), (0, 4)), 4), gap("b", 0, 4));
    assert_eq!(parse(&two((1, 4), (4, 8)), 8), gap("a", 1, 0));
    for wrong_end in [7, 9, u64::MAX - 1000] {
        assert!(matches!(parse(&two((0, 4), (4, 8)), wrong_end), Err(Malformed::End { .. })), "{wrong_end}");
    }
}

#[test]
fn a_tensor_has_the_bytes_of_its_type_and_shape() {
    let one = |dtype: &str, shape: &str, end: u64| {
        parse(&format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{end}]}}}}"#), end)
    };
    assert!(one("F64", "[3]", 24).is_ok());
    for (dtype, shape, end) in [
        ("F64", "[3]", 23),
        ("BF16", "[18446744073709551615,18446744073709551615]", 4),
        ("U8", "[4294967296,4294967296]", 0),
        ("U8", "[0,18446744073709551615,2]", 1),
    ] {
        assert!(matches!(one(dtype, shape, end), Err(Malformed::Span { .. })), "{dtype} {shape}");
    }
    let backwards = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[5,4]}}"#;
    assert!(matches!(parse(backwards, 4), Err(Malformed::Backwards { .. })));
}

#[test]
fn nothing_stands_twice_and_nothing_is_foreign() {
    let tensor = r#"{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"#;
    assert!(json_error(&format!(r#"{{"a":{tensor},"a":{tensor}}}"#), 0).contains("stands twice"));
    assert!(json_error(&format!(r#"{{"a":{tensor},"\u0061":{tensor}}}"#), 0).contains("stands twice"));
    assert!(json_error(r#"{"__metadata__":{},"__metadata__":{}}"#, 0).contains("stands twice"));
    assert!(json_error(r#"{"__metadata__":{"a":"1","a":"2"}}"#, 0).contains("stands twice"));
    for wrong in [
        r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"extra":1}}"#,
        r#"{"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#,
        r#"{"a":{"dtype":"U9","shape":[0],"data_offsets":[0,0]}}"#,
        r#"{"a":{"dtype":"U8","shape":[0.5],"data_offsets":[0,0]}}"#,
        r#"{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,0]}}"#,
        r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0,0]}}"#,
        r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0]}}"#,
        r#"{"a":{"dtype":"U8","shape":[0]}}"#,
        r#"{"__metadata__":{"a":1}}"#,
        r#"{"__metadata__":[]}"#,
        r#"{"a":[]}"#,
        "{} {}",
        "{",
        "{\"a\":1,}",
    ] {
        json_error(wrong, 0);
    }
    assert_eq!(parse(" {}", 0), Err(Malformed::Start));
    assert_eq!(parse("[]", 0), Err(Malformed::Start));
    assert_eq!(parse("", 0), Err(Malformed::Start));
}

#[test]
fn limits_hold_at_the_edge() {
    let shape = |rank: usize| {
        let sizes = vec!["1"; rank].join(",");
        parse(&format!(r#"{{"a":{{"dtype":"U8","shape":[{sizes}],"data_offsets":[0,1]}}}}"#), 1)
    };
    assert!(shape(RANK_MAX).is_ok());
    assert!(shape(RANK_MAX + 1).is_err());
    let name = |bytes: usize| {
        parse(&format!(r#"{{"{}":{{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}}}"#, "n".repeat(bytes)), 1)
    };
    assert!(name(NAME_BYTES_MAX).is_ok());
    assert!(name(NAME_BYTES_MAX + 1).is_err());
    assert_eq!(Header::length(2_u64.to_le_bytes(), 10), Ok(2));
    assert_eq!(Header::length(HEADER_BYTES_MAX.to_le_bytes(), u64::MAX), Ok(HEADER_BYTES_MAX));
    let long = HEADER_BYTES_MAX + 1;
    assert_eq!(Header::length(long.to_le_bytes(), u64::MAX), Err(Malformed::HeaderLong { bytes: long }));
    assert_eq!(Header::length(3_u64.to_le_bytes(), 10), Err(Malformed::Short { bytes: 10, needed: 11 }));
    assert!(Header::length(u64::MAX.to_le_bytes(), 10).is_err());
    assert!(Header::length([0; 8], 10).is_err());
    // Depth is refused, not followed.
    let deep = format!("{{\"a\":{}", "[".repeat(100_000));
    json_error(&deep, 0);
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512), file in any::<u64>()) {
        let _answer = Header::parse(&bytes, file);
    }

    #[test]
    fn mutated_headers_never_break_the_promise(at in 0..160_usize, to in any::<u8>(), file in 0..400_u64) {
        let mut json = br#"{"a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},"b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}}"#.to_vec();
        let place = at % json.len();
        json[place] = to;
        if let Ok(header) = Header::parse(&json, file) {
            // What is taken fills the file exactly and in order.
            let mut expected = 0;
            for tensor in &header.tensors {
                prop_assert_eq!(tensor.begin, expected);
                prop_assert_eq!(tensor.bytes() * 8, tensor.elements() * tensor.dtype.bits());
                expected = tensor.end;
            }
            prop_assert_eq!(header.data_begin() + expected, file);
        }
    }
}
