// The fake service as a process of its own, so that the load generator's processor time is its own:
// prints "HOST:PORT" and serves until its standard input is closed.
#include <iostream>
#include <limits>
#include <memory>
#include <string>

#include "coordinator/ctl/bench/testing/fake_inference_service.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"

int main() {
  lockstep::coordinator::FakeInferenceService service(std::numeric_limits<int32_t>::max());
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) {
    std::cerr << "fake_server: no port of 127.0.0.1 could be opened" << std::endl;
    return 1;
  }
  std::cout << "127.0.0.1:" << port << std::endl;
  std::string line;
  while (std::getline(std::cin, line)) {
  }
  server->Shutdown();
  return 0;
}
