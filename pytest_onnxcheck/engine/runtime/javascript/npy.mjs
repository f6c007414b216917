// Arrays in files, one in .npy format after the other, as `worker.py` reads and writes them.
//
// An array is {type, dims, data}: the type as onnxruntime-common calls it, the data a typed array
// of its bytes. int64 is a BigInt64Array, which is exact beyond 2^53; the bits of float16 are in a
// Uint16Array; bool is a Uint8Array, string an Array.

const KINDS = {
  f2: ["float16", Uint16Array],
  f4: ["float32", Float32Array],
  f8: ["float64", Float64Array],
  i1: ["int8", Int8Array],
  i2: ["int16", Int16Array],
  i4: ["int32", Int32Array],
  i8: ["int64", BigInt64Array],
  u1: ["uint8", Uint8Array],
  u2: ["uint16", Uint16Array],
  u4: ["uint32", Uint32Array],
  u8: ["uint64", BigUint64Array],
  b1: ["bool", Uint8Array],
};
const CODES = Object.fromEntries(Object.entries(KINDS).map(([code, [type]]) => [type, code]));
const MAGIC = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59]; // \x93NUMPY

/** The arrays of a file's bytes, in their order. */
export function readArrays(bytes) {
  const arrays = [];
  for (let at = 0; at < bytes.length; ) {
    const [array, end] = readArray(bytes, at);
    arrays.push(array);
    at = end;
  }
  return arrays;
}

/** The bytes of a file with these arrays. */
export function writeArrays(arrays) {
  const parts = arrays.flatMap((array) => writeArray(array));
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function readArray(bytes, start) {
  if (MAGIC.some((each, index) => bytes[start + index] !== each)) {
    throw new Error("a file of arrays holds something else");
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset + start);
  const long = bytes[start + 6] > 1;
  const from = long ? 12 : 10;
  const body = start + from + (long ? view.getUint32(8, true) : view.getUint16(8, true));
  const header = new TextDecoder().decode(bytes.subarray(start + from, body));
  const [, descr] = /'descr': *'([^']+)'/.exec(header);
  const fortran = /'fortran_order': *True/.test(header);
  const dims = /'shape': *\(([^)]*)\)/.exec(header)[1].match(/\d+/g)?.map(Number) ?? [];
  const size = dims.reduce((product, dim) => product * dim, 1);
  const text = /^<U(\d+)$/.exec(descr);
  const [type, Data] = text ? ["string", Uint32Array] : known(descr);
  const width = text ? Number(text[1]) : 1;
  const end = body + size * width * Data.BYTES_PER_ELEMENT;
  // a copy: a typed array begins at a multiple of its element's size
  const raw = new Data(bytes.slice(body, end).buffer);
  const data = text ? readTexts(raw, size, width) : raw;
  return [{ type, dims, data: fortran && dims.length > 1 ? inOrder(data, dims) : data }, end];
}

function known(descr) {
  const kind = /^[<|]/.test(descr) && KINDS[descr.slice(1)];
  if (!kind) throw new Error(`arrays of ${descr} have no type in JavaScript`);
  return kind;
}

function readTexts(codes, size, width) {
  return Array.from({ length: size }, (_, index) =>
    String.fromCodePoint(...codes.subarray(index * width, (index + 1) * width)).replace(/\0+$/, ""),
  );
}

/** Data whose first dim runs fastest, with the last running fastest. */
function inOrder(data, dims) {
  const steps = dims.map((_, axis) => dims.slice(0, axis).reduce((product, dim) => product * dim, 1));
  const found = data.slice();
  const index = dims.map(() => 0);
  for (let to = 0; to < data.length; to++) {
    found[to] = data[index.reduce((sum, each, axis) => sum + each * steps[axis], 0)];
    for (let axis = dims.length - 1; axis >= 0 && ++index[axis] === dims[axis]; axis--) {
      index[axis] = 0;
    }
  }
  return found;
}

function writeArray({ type, dims, data }) {
  const text = type === "string";
  const code = CODES[type];
  if (!text && !code) throw new Error(`arrays of ${type} have no type in numpy`);
  const points = text ? data.map((each) => Array.from(each, (char) => char.codePointAt(0))) : [];
  const width = points.reduce((longest, each) => Math.max(longest, each.length), 1);
  const descr = text ? `<U${width}` : `${code.endsWith("1") ? "|" : "<"}${code}`;
  const shape = dims.length === 1 ? `${dims[0]},` : dims.join(", ");
  const header = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${shape}), }`;
  const length = Math.ceil((10 + header.length + 1) / 64) * 64 - 10;
  const front = new Uint8Array([...MAGIC, 1, 0, length & 255, length >> 8]);
  const padded = new TextEncoder().encode(`${header.padEnd(length - 1)}\n`);
  if (!text) return [front, padded, new Uint8Array(data.buffer, data.byteOffset, data.byteLength)];
  const codes = new Uint32Array(points.length * width);
  points.forEach((each, index) => codes.set(each, index * width));
  return [front, padded, new Uint8Array(codes.buffer)];
}
