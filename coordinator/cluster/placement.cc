// Whole stages into nodes first, then what is left over, then words for what is missing.
#include "coordinator/cluster/placement.h"

#include <algorithm>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace lockstep::coordinator {
namespace {

struct Node {
  std::string name;
  std::string domain;
  std::vector<size_t> workers;
};

std::vector<Node> NodesOf(std::span<const WorkerInfo> workers) {
  std::vector<Node> nodes;
  for (size_t i = 0; i < workers.size(); ++i) {
    auto node = std::find_if(nodes.begin(), nodes.end(),
                             [&](const Node& n) { return n.domain == workers[i].shm_domain; });
    if (node == nodes.end()) {
      node = nodes.insert(nodes.end(), Node{workers[i].node, workers[i].shm_domain, {}});
    }
    node->workers.push_back(i);
  }
  for (Node& node : nodes) {
    std::sort(node.workers.begin(), node.workers.end(), [&](size_t a, size_t b) {
      return std::tie(workers[a].local_index, workers[a].device, a) <
             std::tie(workers[b].local_index, workers[b].device, b);
    });
  }
  std::sort(nodes.begin(), nodes.end(), [&](const Node& a, const Node& b) {
    return std::tie(workers[a.workers[0]].local_index, a.name, a.domain) <
           std::tie(workers[b.workers[0]].local_index, b.name, b.domain);
  });
  return nodes;
}

std::string Registered(const std::vector<Node>& nodes, size_t workers) {
  if (workers == 0) return "none is registered";
  return absl::StrCat(workers, workers == 1 ? " is registered: " : " are registered: ",
                      absl::StrJoin(nodes, ", ", [](std::string* out, const Node& node) {
                        absl::StrAppend(out, node.workers.size(), " on ", node.name);
                      }));
}

/// What `stages` more stages take, filling the nodes that lack the fewest workers first.
std::string MissingInNodes(const std::vector<Node>& nodes, int tp_size, int stages, int* missing) {
  std::vector<const Node*> partial;
  auto left_over = [&](const Node* node) {
    return static_cast<int>(node->workers.size()) % tp_size;
  };
  for (const Node& node : nodes) {
    if (left_over(&node) > 0) partial.push_back(&node);
  }
  std::stable_sort(partial.begin(), partial.end(),
                   [&](const Node* a, const Node* b) { return left_over(a) > left_over(b); });
  partial.resize(std::min<size_t>(partial.size(), stages));
  std::vector<std::string> parts;
  for (const Node* node : partial) {
    *missing += tp_size - left_over(node);
    parts.push_back(absl::StrCat(tp_size - left_over(node), " on node ", node->name));
  }
  int fresh = stages - static_cast<int>(partial.size());
  *missing += fresh * tp_size;
  if (fresh == 1) parts.push_back(absl::StrCat(tp_size, " on one node"));
  if (fresh > 1) parts.push_back(absl::StrCat(fresh, " times ", tp_size, " on one node"));
  return absl::StrJoin(parts, ", ");
}

size_t LargestNode(const std::vector<Node>& nodes) {
  size_t largest = 0;
  for (const Node& node : nodes) largest = std::max(largest, node.workers.size());
  return largest;
}

absl::Status Missing(const std::vector<Node>& nodes, size_t workers,
                     const PlacementRequest& request, int stages) {
  int needed = request.world_size() - static_cast<int>(workers);
  if (request.tp_size == 1 || request.allow_cross_node_tp) {
    return absl::UnavailableError(absl::StrCat("waiting for ", needed, " more ",
                                               needed == 1 ? "worker" : "workers", "; ",
                                               Registered(nodes, workers)));
  }
  int missing = 0;
  std::string where = MissingInNodes(nodes, request.tp_size, stages, &missing);
  std::string message = absl::StrCat(
      "waiting for ", missing, " more ", missing == 1 ? "worker" : "workers", " (", where,
      "), since TP ", request.tp_size, " stays inside a node unless --allow-cross-node-tp; ",
      Registered(nodes, workers));
  if (needed <= 0) {
    absl::StrAppend(&message, "; legal on these nodes: TP up to ", LargestNode(nodes));
  }
  return absl::UnavailableError(message);
}

}  // namespace

absl::StatusOr<std::vector<size_t>> PlaceRanks(std::span<const WorkerInfo> workers,
                                               const PlacementRequest& request) {
  std::vector<Node> nodes = NodesOf(workers);
  const size_t world_size = request.world_size();
  std::vector<size_t> ranks;
  std::vector<size_t> left_over;
  for (const Node& node : nodes) {
    size_t whole = node.workers.size() / request.tp_size * request.tp_size;
    whole = std::min(whole, world_size - ranks.size());
    ranks.insert(ranks.end(), node.workers.begin(), node.workers.begin() + whole);
    left_over.insert(left_over.end(), node.workers.begin() + whole, node.workers.end());
  }
  size_t open = world_size - ranks.size();
  if (open > 0 && request.allow_cross_node_tp && left_over.size() >= open) {
    ranks.insert(ranks.end(), left_over.begin(), left_over.begin() + open);
    open = 0;
  }
  if (open > 0) {
    return Missing(nodes, workers.size(), request, static_cast<int>(open) / request.tp_size);
  }
  return ranks;
}

}  // namespace lockstep::coordinator
