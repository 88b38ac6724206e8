"""A C++ library from a .proto file, by Debian's protoc and gRPC plugin."""

def cc_grpc_library(name, src, deps = []):
    """Messages and services of //proto/<package path>/<src>, included as "<package path>/x.pb.h".

    Args:
      name: of the cc_library.
      src: the .proto file, in this package.
      deps: the cc_grpc_library targets that it imports.
    """
    stem = src[:-len(".proto")]
    sources = [stem + ".pb.cc", stem + ".grpc.pb.cc"]
    headers = [stem + ".pb.h", stem + ".grpc.pb.h"]
    native.filegroup(
        name = name + "_proto",
        srcs = [src] + [dep + "_proto" for dep in deps],
    )
    package = native.package_name()
    native.genrule(
        name = name + "_gen",
        srcs = [":" + name + "_proto"],
        outs = sources + headers,
        # Generated headers include each other by their path below proto/; like all others they
        # should be found by their path in the workspace.
        cmd = "protoc -Iproto --cpp_out=$(GENDIR)/proto --grpc_out=$(GENDIR)/proto " +
              "--plugin=protoc-gen-grpc=/usr/bin/grpc_cpp_plugin %s/%s && " % (package, src) +
              "sed -i 's|#include \"%s/|#include \"%s/|' $(OUTS)" % (package[len("proto/"):], package),
    )
    native.cc_library(
        name = name,
        srcs = sources,
        hdrs = headers,
        # Generated code is not ours to mend.
        copts = ["-w"],
        deps = deps + ["//third_party:grpc"],
    )
