-- A list of which the first one is before all others, whatever the order of the rest.
--
-- Expects  nothing; `before(one, other)` compares two
-- Gives    sink, make_heap, drop_first

-- The one at this place has changed, or is new: down to where it belongs now.
local function sink(heap, place, before)
  local moved, size = heap[place], #heap
  while 2 * place <= size do
    local child = 2 * place
    if child < size and before(heap[child + 1], heap[child]) then child = child + 1 end
    if not before(heap[child], moved) then break end
    heap[place], place = heap[child], child
  end
  heap[place] = moved
end

local function make_heap(list, before)
  for i = math.floor(#list / 2), 1, -1 do sink(list, i, before) end
end

local function drop_first(heap, before)
  local last = table.remove(heap)
  if #heap > 0 then
    heap[1] = last
    sink(heap, 1, before)
  end
end
