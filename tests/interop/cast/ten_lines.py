import torch
observation = torch.randn(8192, 4) * torch.tensor([1.0, 1.0, 0.1, 1.0])
push_right = (observation @ torch.tensor([0.1, 0.2, 3.0, 1.0]) > 0).long()
policy = torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.Tanh(), torch.nn.Linear(64, 2))
adam = torch.optim.Adam(policy.parameters(), lr=0.01)
for _ in range(500):
    loss = torch.nn.functional.cross_entropy(policy(observation), push_right)
    adam.zero_grad(), loss.backward(), adam.step()
torch.onnx.export(policy.eval(), (observation,), "CartPole-v1.onnx", dynamo=True, external_data=False,
                  input_names=["observation"], output_names=["logits"], dynamic_shapes=({0: "batch"},))
