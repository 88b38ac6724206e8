"""A whole-cluster test: a Python unittest file that starts the real binaries."""

def cluster_test(name, src, size = "medium", tags = [], data = [], clients = False):
    """Runs src with python3 in the repository's layout; standard library only, unless `clients`.

    Args:
      name: of the test.
      src: the Python file, in this package.
      size: Bazel's, for the time limit.
      tags: more tags; "local" is always there, since the tests need /dev/shm and network namespaces.
      data: more files that the test reads.
      clients: whether it needs the packages of tests/clients/requirements.txt.
    """
    native.sh_test(
        name = name,
        size = size,
        srcs = ["//tests:run_python.sh"],
        args = (["--clients"] if clients else []) + ["$(rootpath %s)" % src],
        data = data + [
            src,
            "//coordinator:coordinatord",
            "//coordinator/ctl:coordinatorctl",
            "//models/demo",
            "//models/demo:check_stories",
            "//tests/harness",
            "//worker:workerd",
        ],
        tags = tags + ["local"],
    )
