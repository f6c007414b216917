// Opens ONNX Runtime's sessions in JavaScript, runs and times them: in node, and in a page.
//
// The questions are those of `worker.py`, and so are the answers. A method is a question, its
// argument an object with the question's keys.

import { readArrays, writeArrays } from "./npy.mjs";

export const CPU = "CPUExecutionProvider";
export const WEBGPU = "WebGpuExecutionProvider";

/** what ONNX Runtime calls its providers in C++ -> in JavaScript */
const PROVIDERS = { [CPU]: { web: "wasm", node: "cpu" }, [WEBGPU]: { web: "webgpu" } };
/** types in JavaScript whose names differ in ONNX Runtime */
const TYPES = { float32: "float", float64: "double" };
/** settings of a session in the manifest -> in JavaScript */
const SETTINGS = {
  intra_op_num_threads: "intraOpNumThreads",
  inter_op_num_threads: "interOpNumThreads",
  enable_cpu_mem_arena: "enableCpuMemArena",
  enable_mem_pattern: "enableMemPattern",
};

/** how long calls are warmed up, in seconds, and how little their medians change by then */
const WARM_UP = [0.2, 1.0];
const STABLE = 0.05;

/** Why a library is missing; `kind` as in `workers.Refused`. */
class Refusal extends Error {
  kind = "library";
}

export class Sessions {
  #ort;
  #files;
  #runtime;
  #clocks;
  #more;
  #sessions = new Map();
  #opened = 0;
  #calls = [];

  /**
   * @param ort Gives the module for a provider, of onnxruntime-web or onnxruntime-node.
   * @param files `read(path)` and `write(path, bytes)`.
   * @param runtime "web" or "node".
   * @param clocks Gives seconds: wall time, and the processor time of thread and process.
   * @param more Providers that are here besides the CPU.
   */
  constructor(ort, files, runtime, clocks, more = []) {
    this.#ort = ort;
    this.#files = files;
    this.#runtime = runtime;
    this.#clocks = clocks;
    this.#more = more;
  }

  /** Versions; the providers that are here, and all that this runtime knows. */
  async hello() {
    const { env } = await this.#ort(CPU);
    return {
      version: env.versions[this.#runtime],
      packages: { [`onnxruntime-${this.#runtime}`]: env.versions[this.#runtime] },
      available: [CPU, ...this.#more],
      known: Object.keys(PROVIDERS).filter((name) => PROVIDERS[name][this.#runtime]),
    };
  }

  /** Opens a session and drops it. */
  async load(question) {
    await (await this.#create(question)).handle.release();
  }

  /** Opens a session and keeps it: its number, names and types of its values, its providers. */
  async open(question) {
    const started = this.#clocks()[0];
    const session = await this.#create(question);
    const seconds = this.#clocks()[0] - started;
    this.#sessions.set(++this.#opened, session);
    const { handle, provider } = session;
    const values = (found) => found.map(({ name, type }) => [name, `tensor(${TYPES[type] ?? type})`]);
    return {
      session: this.#opened,
      inputs: values(handle.inputMetadata),
      outputs: values(handle.outputMetadata),
      providers: [provider],
      seconds,
    };
  }

  /** Drops a session. */
  async close({ session }) {
    await this.#sessions.get(session)?.handle.release();
    this.#sessions.delete(session);
  }

  /** Runs a session on the arrays of a file, and writes its outputs into another. */
  async run({ session, inputs, outputs }) {
    const { handle, provider, ort } = this.#sessions.get(session);
    const feeds = fed(ort, handle, await this.#files.read(inputs));
    const started = this.#clocks()[0];
    const found = await handle.run(feeds);
    const seconds = this.#clocks()[0] - started;
    await this.#files.write(outputs, writeArrays(handle.outputNames.map((name) => plain(found[name]))));
    return { seconds, providers: [provider] };
  }

  /** Opens a session, runs it once and drops it. */
  async try_run(question) {
    const { handle, ort } = await this.#create(question);
    try {
      await handle.run(fed(ort, handle, await this.#files.read(question.inputs)));
    } finally {
      await handle.release();
    }
  }

  /** What opening and running adds to the peak of memory: a JavaScript engine does not tell. */
  peak() {
    return null;
  }

  /** Makes calls of sessions on the arrays of files, and of the kernel, and warms them up. */
  async take_turns({ sides }) {
    this.#calls = [];
    for (const [number, inputs] of sides) {
      const { handle, ort } = this.#sessions.get(number);
      const feeds = fed(ort, handle, await this.#files.read(inputs));
      this.#calls.push(() => handle.run(feeds));
    }
    this.#calls.push(kernel());
    const started = this.#clocks()[0];
    for (let before = null; ; ) {
      const now = await this.#medians(WARM_UP[0] / 2);
      const stable = before?.every((early, index) => Math.abs(now[index] - early) <= STABLE * early);
      if (stable || this.#clocks()[0] - started >= WARM_UP[1]) return now;
      before = now;
    }
  }

  /** Times calls once each, one after the other; each is called so many times before. */
  async take_round({ order, untimed }) {
    const times = [];
    for (const [index, number] of order.entries()) {
      for (let count = 0; count < untimed[index]; count++) await this.#calls[number]();
      const before = this.#clocks();
      await this.#calls[number]();
      const after = this.#clocks();
      times.push(after.map((each, clock) => Math.max(each - before[clock], 1e-9)));
    }
    return times;
  }

  /** Ends what `take_turns` began. */
  rest() {
    this.#calls = [];
  }

  async #create({ path, opening }) {
    const name = PROVIDERS[opening.provider]?.[this.#runtime];
    if (!name) throw new Error(`${opening.provider} is no provider of onnxruntime-${this.#runtime}`);
    if (opening.libraries?.length) {
      throw new Refusal(
        `operator_libraries: ${opening.libraries[0]}: JavaScript loads no libraries of operators`,
      );
    }
    const options = settings(opening.session_options ?? {});
    options.executionProviders = [{ name, ...opening.provider_options }];
    options.logSeverityLevel = 3;
    if (opening.optimise === false) options.graphOptimizationLevel = "disabled";
    const usual = options.intraOpNumThreads ?? Number(globalThis.process?.env.OMP_NUM_THREADS);
    const threads = opening.threads || usual;
    if (threads) options.intraOpNumThreads = threads; // node's takes no undefined
    const ort = await this.#ort(opening.provider);
    ort.env.logLevel = "error";
    if (this.#runtime === "web") {
      // of all sessions of this process: the first makes the threads
      ort.env.wasm.numThreads = options.intraOpNumThreads ?? 1;
    }
    const handle = await ort.InferenceSession.create(await this.#model(path, opening, options), options);
    return { handle, ort, provider: opening.provider };
  }

  /** What `create` takes; the external data go into the options. */
  async #model(path, opening, options) {
    if (this.#runtime === "node") return path; // it finds the data itself
    const data = Object.entries(opening.data ?? {});
    if (data.length) {
      options.externalData = await Promise.all(
        data.map(async ([name, file]) => ({ path: name, data: await this.#files.read(file) })),
      );
    }
    return this.#files.read(path);
  }

  async #medians(seconds) {
    const times = this.#calls.map(() => []);
    const until = this.#clocks()[0] + seconds;
    while (!times[0].length || this.#clocks()[0] < until) {
      for (const [index, call] of this.#calls.entries()) {
        const started = this.#clocks()[0];
        await call();
        times[index].push(this.#clocks()[0] - started);
      }
    }
    return times.map((each) => Math.max(each.sort((a, b) => a - b)[each.length >> 1], 1e-9));
  }
}

/** What `answer` gives for a question, as `worker.py` answers: a value, or an error of a kind. */
export async function answered(answer) {
  try {
    return { value: (await answer()) ?? null };
  } catch (error) {
    return { error: String(error?.message || error), kind: error?.kind ?? "run" };
  }
}

function settings(given) {
  const options = {};
  for (const [name, value] of Object.entries(given)) {
    if (name === "graph_optimization_level") {
      options.graphOptimizationLevel = value === "disable" ? "disabled" : value;
    } else if (SETTINGS[name]) {
      options[SETTINGS[name]] = value;
    } else {
      // an entry `a.b.c` is an object in an object in JavaScript
      const keys = name.split(".");
      const last = keys.pop();
      let at = (options.extra ??= {});
      for (const key of keys) at = at[key] ??= {};
      at[last] = typeof value === "boolean" ? String(Number(value)) : String(value);
    }
  }
  return options;
}

/** What a session is fed with: the arrays of a file, in the order of its inputs. */
function fed(ort, handle, bytes) {
  const arrays = readArrays(bytes);
  const tensor = ({ type, data, dims }) => new ort.Tensor(type, data, dims);
  return Object.fromEntries(handle.inputNames.map((name, index) => [name, tensor(arrays[index])]));
}

function plain({ type, dims, data }) {
  return { type, dims, data };
}

/** The fixed piece of work: multiply-adds and `tanh`, as in `worker.py`, in JavaScript. */
function kernel() {
  const size = 128;
  const [left, right, product] = [0, 1, 2].map(() => new Float32Array(size * size));
  for (let at = 0; at < size * size; at++) {
    left[at] = Math.sin(at);
    right[at] = Math.cos(at);
  }
  return () => {
    for (let row = 0; row < size; row++) {
      for (let column = 0; column < size; column++) {
        let sum = 0;
        for (let inner = 0; inner < size; inner++) {
          sum += left[row * size + inner] * right[inner * size + column];
        }
        product[row * size + column] = Math.tanh(sum);
      }
    }
  };
}
