/**
 * The library's streams of random numbers. `fromnoise.rng` names a stream by (seed, purpose, index) and seeds torch's
 * CPU generator with that name. This file does the same, so a seed in the page gives the same numbers as in Python.
 *
 * torch.randn on a CPU takes 32 bits of the Mersenne Twister (Matsumoto & Nishimura 1998) for each number and makes a
 * uniform number of 24 of them. Sixteen uniform numbers become sixteen normal ones: eight radii with eight angles
 * (Box & Muller 1958).
 */

/** The Mersenne Twister, MT19937. */
class Twister {
  private readonly state = new Uint32Array(624);
  private at = 624;

  constructor(seed: number) {
    const s = this.state;
    s[0] = seed;
    for (let i = 1; i < 624; i++) {
      const x = s[i - 1] ^ (s[i - 1] >>> 30);
      s[i] = Math.imul(1812433253, x) + i;
    }
  }

  next(): number {
    if (this.at === 624) this.twist();
    let y = this.state[this.at++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  private twist(): void {
    const s = this.state;
    for (let i = 0; i < 624; i++) {
      const y = (s[i] & 0x80000000) | (s[(i + 1) % 624] & 0x7fffffff);
      s[i] = s[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.at = 0;
  }
}

/** A stream named as `fromnoise.rng.stream(seed, purpose, index)` names it. */
export class Stream {
  private readonly twister: Twister;

  constructor(seed: number, purpose: string, index = 0) {
    const base = new DataView(sha256(`${seed}/${purpose}`).buffer).getUint32(0, true);
    this.twister = new Twister(mix((base + index) >>> 0));
  }

  /** A uniform number in [0, 1), as torch.rand draws it in float32. */
  uniform(): number {
    return (this.twister.next() & 0xffffff) / 16777216;
  }

  /** Fill an array with standard normal numbers, as torch.randn does; its length must be a multiple of 16. */
  normal(out: Float32Array): Float32Array {
    if (out.length % 16)
      throw new RangeError("the length must be a multiple of 16: torch draws other lengths in another way");
    for (let i = 0; i < out.length; i++) out[i] = this.uniform();
    for (let i = 0; i < out.length; i += 16) {
      for (let j = i; j < i + 8; j++) {
        const radius = Math.sqrt(-2 * Math.log(1 - out[j]));
        const angle = 2 * Math.PI * out[j + 8];
        out[j] = radius * Math.cos(angle);
        out[j + 8] = radius * Math.sin(angle);
      }
    }
    return out;
  }
}

function mix(h: number): number {
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** SHA-256 of a short ASCII text (FIPS 180-4); the browser's own works on secure origins only. */
export function sha256(text: string): Uint8Array {
  const bytes = new TextEncoder().encode(text);
  const padded = new Uint8Array(Math.ceil((bytes.length + 9) / 64) * 64);
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 4, bytes.length * 8);
  const h = Uint32Array.from(ROOTS.initial);
  const w = new Uint32Array(64);
  for (let block = 0; block < padded.length; block += 64) {
    for (let i = 0; i < 16; i++) w[i] = view.getUint32(block + 4 * i);
    for (let i = 16; i < 64; i++) {
      const a = turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ (w[i - 15] >>> 3);
      const b = turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ (w[i - 2] >>> 10);
      w[i] = w[i - 16] + a + w[i - 7] + b;
    }
    const v = Array.from(h);
    for (let i = 0; i < 64; i++) {
      const choice = (v[4] & v[5]) ^ (~v[4] & v[6]);
      const majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
      const one = v[7] + (turn(v[4], 6) ^ turn(v[4], 11) ^ turn(v[4], 25)) + choice + ROOTS.rounds[i] + w[i];
      const two = (turn(v[0], 2) ^ turn(v[0], 13) ^ turn(v[0], 22)) + majority;
      v.pop();
      v.unshift((one + two) | 0);
      v[4] = (v[4] + one) | 0;
    }
    for (let i = 0; i < 8; i++) h[i] += v[i];
  }
  const out = new DataView(new ArrayBuffer(32));
  h.forEach((word, i) => out.setUint32(4 * i, word));
  return new Uint8Array(out.buffer);
}

function turn(x: number, by: number): number {
  return (x >>> by) | (x << (32 - by));
}

/** The first 32 bits of the fractional parts of the square and cube roots of the first primes. */
const ROOTS = (() => {
  const primes: number[] = [];
  for (let n = 2; primes.length < 64; n++) if (primes.every((p) => n % p)) primes.push(n);
  const bits = (x: number) => Math.floor((x - Math.floor(x)) * 4294967296);
  return { initial: primes.slice(0, 8).map((p) => bits(Math.sqrt(p))), rounds: primes.map((p) => bits(Math.cbrt(p))) };
})();
