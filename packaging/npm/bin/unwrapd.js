#!/usr/bin/env node
// Runs the program from the package of this platform.

"use strict";

const { spawn } = require("node:child_process");
const { constants } = require("node:os");

const name = `@unwrapd/${process.platform}-${process.arch}`;

function program() {
  try {
    return require.resolve(`${name}/unwrapd`);
  } catch {
    console.error(
      `unwrapd: the package ${name} is not installed. Install without --omit=optional; ` +
        "on a platform that has no such package, build unwrapd from its source.",
    );
    process.exit(1);
  }
}

const child = spawn(program(), process.argv.slice(2), { stdio: "inherit" });

// The terminal sends its signals to both, and everyone else only to this process. The program counts
// signals that follow each other immediately as one.
for (const signal of ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM"]) {
  process.on(signal, () => child.kill(signal));
}

child.on("error", (error) => {
  console.error(`unwrapd: cannot start the program: ${error.message}`);
  process.exit(1);
});
child.on("exit", (code, signal) => {
  process.exit(signal ? 128 + constants.signals[signal] : code);
});
