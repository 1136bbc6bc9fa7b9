// Compiles the kernel twice and writes both, as base64, to a module that the page imports.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const asc = join(here, "..", "node_modules", "assemblyscript", "bin", "asc.js");
const work = mkdtempSync(join(tmpdir(), "kernel-"));

function compile(name, features) {
  const out = join(work, `${name}.wasm`);
  const enable = features.flatMap((feature) => ["--enable", feature]);
  const flags = ["-O3", "--noAssert", "--runtime", "stub", "--importMemory", "--use", "abort="];
  execFileSync(process.execPath, [asc, "kernel.ts", "-o", out, ...flags, ...enable], { cwd: here, stdio: "inherit" });
  return readFileSync(out).toString("base64");
}

const text = [
  "// Made by kernel/build.mjs from kernel/kernel.ts.",
  `export const RELAXED =\n  "${compile("relaxed", ["simd", "relaxed-simd"])}";`,
  `export const SIMD =\n  "${compile("simd", ["simd"])}";`,
].join("\n");
writeFileSync(join(here, "..", "src", "model", "kernel.wasm.ts"), `${text}\n`);
rmSync(work, { recursive: true });
