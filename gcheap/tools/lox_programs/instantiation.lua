-- Instantiation: objects of three fields, most of them garbage at once.
local size = 2000000

local Point = {}
Point.__index = Point

function Point.new(x, y, before)
  local made = setmetatable({}, Point)
  made.x = x
  made.y = y
  made.before = before
  return made
end

local function run(n)
  local made = 0
  local last = nil
  for i = 0, n - 1 do
    last = Point.new(i, 1, nil)
    made = made + last.y
  end
  return made + last.x
end

print(run(size) == size + size - 1 and "right" or "wrong")
