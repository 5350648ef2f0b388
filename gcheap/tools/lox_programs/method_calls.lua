-- Method calls: a toggle and a toggle that overrides and calls its superclass.
local size = 1500000

local Toggle = {}
Toggle.__index = Toggle

function Toggle.new(start)
  return setmetatable({ state = start }, Toggle)
end

function Toggle:value() return self.state end

function Toggle:activate()
  self.state = not self.state
  return self
end

local NthToggle = setmetatable({}, { __index = Toggle })
NthToggle.__index = NthToggle

function NthToggle.new(start, every)
  local made = Toggle.new(start)
  made.every = every
  made.count = 0
  return setmetatable(made, NthToggle)
end

function NthToggle:activate()
  self.count = self.count + 1
  if self.count >= self.every then
    Toggle.activate(self)
    self.count = 0
  end
  return self
end

local function run(n)
  local ones = 0
  local toggle = Toggle.new(true)
  for _ = 1, n do if toggle:activate():value() then ones = ones + 1 end end
  local nth = NthToggle.new(true, 3)
  for _ = 1, n do if nth:activate():value() then ones = ones + 1 end end
  return ones
end

print(run(size) == size and "right" or "wrong")
