//! The one pass over a model's tensors.
//!
//! Owns the state between two pieces of bytes, and the order in which a tensor's matrices, rows and segments come.
//! Refuses to read files and headers. Whoever has the bytes calls `begin`, `push` and `end` for each tensor, in any
//! order and from any number of scans at once, and puts the parts together with `Fingerprint::of`.

use super::{
    compat,
    kernel::{self, Dtype, HASH_KEYS, Hash, LANES, Level, SEGMENT, Segment, Sums},
    key::{Key, word_at},
    names::{self, Layout},
    print::{Part, SAMPLES, SIDE, Shape, SlicePrint, TensorPrint, binned},
};

/// Rows of a matrix whose norms are kept until its end: four times the largest vocabulary in use.
const ROWS_MAX: u64 = 1 << 20;
/// Columns of a matrix whose sums are kept: far above the widest layer in use.
const COLUMNS_MAX: u64 = 1 << 18;
/// Rows after which the single-precision column sums are emptied into double ones.
const COLUMN_ROWS: u64 = 256;

/// Why a scan refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The shape has more elements than can be counted.
    #[error("tensor {0:?} has more elements than can be counted")]
    TooLarge(String),
    /// More or fewer bytes than the shape says.
    #[error("tensor {name:?} has {got} bytes where its shape says {expected}")]
    Length {
        /// The tensor.
        name: String,
        /// Bytes that its shape says.
        expected: u64,
        /// Bytes that came.
        got: u64,
    },
    /// `push` or `end` without `begin`, or a second `begin`.
    #[error("the tensor's pieces came out of order")]
    Order,
}

/// A scan in progress.
pub struct Scan<'k> {
    key: &'k Key,
    hash_key: Vec<u32>,
    level: Level,
    values: Box<[f32; SEGMENT]>,
    current: Option<Tensor>,
    part: Part,
}

struct Tensor {
    name: String,
    dtype: Dtype,
    layout: Layout,
    expected: u64,
    got: u64,
    carry: Vec<u8>,
    /// Elements done.
    done: u64,
    squares: f64,
    /// Public sample positions with their index, latest first.
    public: Vec<(u64, usize)>,
    public_values: [f32; compat::SAMPLES],
    matrix: Matrix,
    /// Number of the matrix among the tensor's.
    at: u64,
}

#[derive(Default)]
struct Matrix {
    column_seed: u64,
    row_seed: u64,
    row: u64,
    column: u64,
    hash: Hash,
    lanes: Lanes,
    sketch: Vec<f64>,
    squares: Columns,
    fourths: Columns,
    row_squares: Vec<f32>,
    row_kurtosis: Vec<f32>,
    row_sums: (f64, f64),
    energy: f64,
    /// Secret sample positions with their index, latest first.
    secret: Vec<(u64, usize)>,
    samples: Vec<f32>,
}

/// Signed sums of the columns of one row, by column number modulo the lanes.
struct Lanes([f32; LANES]);

impl Default for Lanes {
    fn default() -> Self {
        Self([0.0; LANES])
    }
}

/// Sums by column, single for speed and double for many rows.
#[derive(Default)]
struct Columns {
    single: Vec<f32>,
    double: Vec<f64>,
}

impl Columns {
    fn of(columns: usize) -> Self {
        let padded = columns.next_multiple_of(LANES);
        Self { single: vec![0.0; padded], double: vec![0.0; padded] }
    }

    fn settle(&mut self) {
        for (double, single) in self.double.iter_mut().zip(&mut self.single) {
            *double += f64::from(*single);
            *single = 0.0;
        }
    }
}

impl<'k> Scan<'k> {
    /// A scan under this key.
    #[must_use]
    pub fn new(key: &'k Key) -> Self {
        let [seed, ..] = key.words("hash", "");
        Self {
            key,
            hash_key: (0..HASH_KEYS as u64).map(|at| word_at(seed, at) as u32).collect(),
            level: Level::detect(),
            values: Box::new([0.0; SEGMENT]),
            current: None,
            part: Part { key: key.id(), ..Part::default() },
        }
    }

    /// Begins a tensor.
    pub fn begin(&mut self, name: &str, dtype: Dtype, shape: &[u64]) -> Result<(), Error> {
        if self.current.is_some() {
            return Err(Error::Order);
        }
        let elements = shape.iter().try_fold(1u64, |product, side| product.checked_mul(*side));
        let bytes = elements.and_then(|elements| elements.checked_mul(dtype.bytes() as u64));
        let (Some(elements), Some(expected)) = (elements, bytes) else { return Err(Error::TooLarge(name.to_owned())) };
        let layout = names::layout_of(name, shape);
        let mut public: Vec<_> = compat::positions(name, elements).into_iter().zip(0..).collect();
        public.sort_unstable_by(|a, b| b.cmp(a));
        let mut tensor = Tensor {
            name: name.to_owned(),
            dtype,
            expected,
            got: 0,
            carry: Vec::new(),
            done: 0,
            squares: 0.0,
            public,
            public_values: [0.0; compat::SAMPLES],
            matrix: Matrix::default(),
            at: 0,
            layout,
        };
        tensor.matrix = tensor.open(self.key);
        self.current = Some(tensor);
        Ok(())
    }

    /// Takes the tensor's next bytes, however many.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        let Some(tensor) = &mut self.current else { return Err(Error::Order) };
        tensor.got += bytes.len() as u64;
        if tensor.got > tensor.expected {
            let (name, expected, got) = (tensor.name.clone(), tensor.expected, tensor.got);
            return Err(Error::Length { name, expected, got });
        }
        while !bytes.is_empty() {
            let wanted = tensor.wanted() - tensor.carry.len();
            let (piece, rest) = bytes.split_at(wanted.min(bytes.len()));
            bytes = rest;
            let values = &mut self.values;
            let mut tools = Tools { key: self.key, hash_key: &self.hash_key, level: self.level, values };
            if piece.len() < wanted || !tensor.carry.is_empty() {
                tensor.carry.extend_from_slice(piece);
                if piece.len() == wanted {
                    let carry = std::mem::take(&mut tensor.carry);
                    tensor.segment(&carry, &mut tools, &mut self.part);
                    tensor.carry = carry;
                    tensor.carry.clear();
                }
            } else {
                tensor.segment(piece, &mut tools, &mut self.part);
            }
        }
        Ok(())
    }

    /// Ends the tensor.
    pub fn end(&mut self) -> Result<(), Error> {
        let Some(tensor) = self.current.take() else { return Err(Error::Order) };
        if tensor.got != tensor.expected {
            return Err(Error::Length { name: tensor.name, expected: tensor.expected, got: tensor.got });
        }
        if tensor.dtype.is_float() {
            let samples = tensor.public_values.map(f64::from).to_vec();
            self.part.tensors.push(TensorPrint { name: tensor.name, norm: tensor.squares.sqrt(), samples });
        }
        Ok(())
    }

    /// What this scan has seen.
    pub fn finish(self) -> Result<Part, Error> {
        if self.current.is_some() { Err(Error::Order) } else { Ok(self.part) }
    }
}

/// What a segment needs beside its tensor.
struct Tools<'a> {
    key: &'a Key,
    hash_key: &'a [u32],
    level: Level,
    values: &'a mut [f32; SEGMENT],
}

impl Tensor {
    fn family(&self) -> &str {
        &self.layout.parts[(self.at % self.layout.parts.len() as u64) as usize]
    }

    /// A fresh matrix: signs and positions follow from its family, so all experts of one have the same.
    fn open(&self, key: &Key) -> Matrix {
        let [column_seed, row_seed, positions, ..] = key.words("signs", self.family());
        let elements = self.layout.rows * self.layout.cols;
        let is_wide = !self.dtype.is_float() || self.layout.cols > COLUMNS_MAX;
        let columns = if is_wide { 0 } else { self.layout.cols as usize };
        let mut secret: Vec<_> =
            (0..SAMPLES).filter_map(|at| Some((word_at(positions, at as u64).checked_rem(elements)?, at))).collect();
        secret.sort_unstable_by(|a, b| b.cmp(a));
        Matrix {
            column_seed,
            row_seed,
            sketch: if self.dtype.is_float() { vec![0.0; SIDE * SIDE] } else { Vec::new() },
            squares: Columns::of(columns),
            fourths: Columns::of(columns),
            secret,
            samples: vec![0.0; SAMPLES],
            ..Matrix::default()
        }
    }

    /// Bytes of the segment that is due.
    fn wanted(&self) -> usize {
        let left = self.layout.cols - self.matrix.column;
        left.min(SEGMENT as u64) as usize * self.dtype.bytes()
    }

    fn segment(&mut self, raw: &[u8], tools: &mut Tools<'_>, part: &mut Part) {
        let count = (raw.len() / self.dtype.bytes()) as u64;
        if self.dtype.is_float() {
            self.squares += self.matrix.sum(raw, self.dtype, tools);
            self.sample(&tools.values[..count as usize]);
        } else {
            kernel::hash_only(raw, tools.hash_key, &mut self.matrix.hash);
        }
        self.done += count;
        self.matrix.column += count;
        if self.matrix.column < self.layout.cols {
            return;
        }
        self.matrix.end_row(&self.layout);
        if self.matrix.row == self.layout.rows {
            part.slices.push(self.close());
            self.at += 1;
            let is_last = self.at == self.layout.members * self.layout.parts.len() as u64;
            self.matrix = if is_last { Matrix::default() } else { self.open(tools.key) };
        }
    }

    /// Takes the sampled elements out of the segment that starts at `done`.
    fn sample(&mut self, values: &[f32]) {
        let end = self.done + values.len() as u64;
        while let Some((place, at)) = self.public.pop_if(|(place, _)| *place < end) {
            self.public_values[at] = values[(place - self.done) as usize];
        }
        let start = self.done % (self.layout.rows * self.layout.cols);
        let end = start + values.len() as u64;
        while let Some((place, at)) = self.matrix.secret.pop_if(|(place, _)| *place < end) {
            self.matrix.samples[at] = values[(place - start) as usize];
        }
    }

    fn close(&mut self) -> SlicePrint {
        let family = self.family().to_owned();
        let member = self.layout.first.map(|first| first + (self.at / self.layout.parts.len() as u64) as u32);
        std::mem::take(&mut self.matrix).close(family, member, self.dtype, &self.layout)
    }
}

impl Matrix {
    /// Adds a segment's sums and says its sum of squares.
    fn sum(&mut self, raw: &[u8], dtype: Dtype, tools: &mut Tools<'_>) -> f64 {
        let count = raw.len() / dtype.bytes();
        let block = self.column / LANES as u64;
        let segment = Segment { raw, dtype, seed: self.column_seed, block, hash_key: tools.hash_key };
        let columns = if self.squares.single.is_empty() {
            0..0
        } else {
            self.column as usize..self.column as usize + count.next_multiple_of(LANES)
        };
        let sums = Sums {
            lanes: &mut self.lanes.0,
            squares: &mut self.squares.single[columns.clone()],
            fourths: &mut self.fourths.single[columns],
            hash: &mut self.hash,
        };
        let (squares, fourths) = kernel::work(tools.level, &segment, tools.values, sums);
        self.row_sums.0 += squares;
        self.row_sums.1 += fourths;
        squares
    }

    /// Adds the row's lanes, with the row's sign, to the row of the sketch that it falls into.
    fn project_row(&mut self) {
        let is_minus = word_at(self.row_seed, self.row) & 1 == 1;
        let start = (self.row % SIDE as u64) as usize * SIDE;
        for (lane, value) in self.lanes.0.iter_mut().enumerate() {
            let value = f64::from(std::mem::take(value));
            self.sketch[start + lane % SIDE] += if is_minus { -value } else { value };
        }
    }

    fn end_row(&mut self, layout: &Layout) {
        let (squares, fourths) = std::mem::take(&mut self.row_sums);
        if !self.sketch.is_empty() {
            self.project_row();
        }
        self.energy += squares;
        if layout.rows <= ROWS_MAX && layout.rows > 1 {
            self.row_squares.push(squares as f32);
            self.row_kurtosis.push(kurtosis(squares, fourths, layout.cols));
        }
        self.row += 1;
        self.column = 0;
        if self.row.is_multiple_of(COLUMN_ROWS) {
            self.squares.settle();
            self.fourths.settle();
        }
    }

    fn close(mut self, family: String, member: Option<u32>, dtype: Dtype, layout: &Layout) -> SlicePrint {
        self.squares.settle();
        self.fourths.settle();
        let used = self.squares.double.len().min(layout.cols as usize);
        let columns = self.squares.double[..used].iter().zip(&self.fourths.double[..used]);
        let column_kurtosis = columns.map(|(two, four)| kurtosis(*two, *four, layout.rows)).collect();
        let column_squares = self.squares.double[..used].iter().map(|sum| *sum as f32).collect();
        SlicePrint {
            family,
            member,
            dtype,
            rows: layout.rows,
            cols: layout.cols,
            digest: self.hash.state,
            energy: self.energy,
            sketch: self.sketch.iter().map(|sum| *sum as f32).collect(),
            samples: self.samples.try_into().unwrap_or([0.0; SAMPLES]),
            shape: Shape {
                row_norms: binned(norms(self.row_squares)),
                column_norms: binned(norms(column_squares)),
                row_kurtosis: binned(self.row_kurtosis),
                column_kurtosis: binned(column_kurtosis),
            },
        }
    }
}

/// Fourth moment over the squared second one: free of scale. Zero where there is nothing.
fn kurtosis(squares: f64, fourths: f64, count: u64) -> f32 {
    let value = fourths * count as f64 / (squares * squares);
    if value.is_finite() { value as f32 } else { 0.0 }
}

/// Norms relative to their root mean square: free of the matrix's scale.
fn norms(squares: Vec<f32>) -> Vec<f32> {
    let mean = squares.iter().map(|square| f64::from(*square)).sum::<f64>() / squares.len().max(1) as f64;
    let scale = if mean > 0.0 && mean.is_finite() { mean.recip() } else { 0.0 };
    squares.into_iter().map(|square| (f64::from(square) * scale).sqrt() as f32).collect()
}
