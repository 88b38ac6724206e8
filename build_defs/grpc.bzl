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
    native.genrule(
        name = name + "_gen",
        srcs = [":" + name + "_proto"],
        outs = sources + headers,
        cmd = "protoc -Iproto --cpp_out=$(GENDIR)/proto --grpc_out=$(GENDIR)/proto " +
              "--plugin=protoc-gen-grpc=/usr/bin/grpc_cpp_plugin proto/%s/%s" % (native.package_name()[len("proto/"):], src),
        tools = [],
    )
    native.cc_library(
        name = name,
        srcs = sources,
        hdrs = headers,
        # Generated code is not ours to mend.
        copts = ["-w"],
        includes = ["../.."],
        deps = deps + ["//third_party:grpc"],
    )
