import { defineConfig } from "vite";
import { viteSingleFile } from "vite-plugin-singlefile";

// One file with everything in it. It is committed where the Python package looks for it, so that installing needs no
// Node; CI builds it again and compares.
export default defineConfig({
  plugins: [viteSingleFile({ removeViteModuleLoader: true })],
  worker: { format: "iife" },
  build: { target: "es2022", outDir: "../src/fromnoise/export/web", emptyOutDir: true, modulePreload: false },
});
