-- Binary trees: one of depth `size` lives while many of smaller depths come and go.
local size = 16

local Tree = {}
Tree.__index = Tree

function Tree.new(depth)
  local made = setmetatable({}, Tree)
  if depth > 0 then
    made.left = Tree.new(depth - 1)
    made.right = Tree.new(depth - 1)
  else
    made.left = nil
    made.right = nil
  end
  return made
end

function Tree:count()
  if self.left == nil then return 1 end
  return 1 + self.left:count() + self.right:count()
end

local function power(n)
  local result = 1
  for _ = 1, n do result = result * 2 end
  return result
end

local function run(depth)
  local right = Tree.new(depth + 1):count() == power(depth + 2) - 1
  local kept = Tree.new(depth)
  for d = 4, depth, 4 do
    local trees = power(depth - d + 4)
    local nodes = 0
    for _ = 1, trees do nodes = nodes + Tree.new(d):count() end
    right = right and nodes == trees * (power(d + 1) - 1)
  end
  return right and kept:count() == power(depth + 1) - 1
end

print(run(size) and "right" or "wrong")
