"""A fuzz target: a file with LLVMFuzzerTestOneInput, and a corpus."""

def fuzz_target(name, deps, data = []):
    """Makes `name`, for tools/fuzz, and `name`_corpus_test, which every build runs.

    Args:
      name: of the target; its source is name.cc, its corpus lies in corpus/name/.
      deps: what is fuzzed.
      data: files that the target reads, relative to the repository's root.
    """
    native.cc_library(
        name = name + "_lib",
        testonly = True,
        srcs = [name + ".cc"],
        data = data,
        deps = deps,
        alwayslink = True,
    )

    # Only clang has libFuzzer (--config=fuzz).
    native.cc_binary(
        name = name,
        testonly = True,
        linkopts = ["-fsanitize=fuzzer"],
        tags = ["manual"],
        deps = [":" + name + "_lib"],
    )
    native.cc_test(
        name = name + "_corpus_test",
        size = "small",
        srcs = ["corpus_main.cc"],
        args = ["tests/fuzz/corpus/" + name],
        data = native.glob(["corpus/" + name + "/**"]),
        deps = [":" + name + "_lib"],
    )
