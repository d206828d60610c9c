/* A server without Python: loads a SavedModel by the tag "serve" and answers the requests of a file.

   client MODEL REQUESTS ANSWERS

   Both files are written and read by client.py, numbers in this machine's byte order:
   REQUESTS: count; per request: count of inputs, each (operation, index, tensor); count of outputs, each (operation, index).
   ANSWERS: per request: status code; if 0, the tensors, otherwise the message.
   A tensor is its type, rank, dimensions, and its values; strings and names are length and bytes. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tensorflow/c/c_api.h>
#include <tensorflow/c/tf_tstring.h>

static void fail(const char *what) {
  fprintf(stderr, "client: %s\n", what);
  exit(2);
}

static void get(FILE *file, void *into, size_t bytes) {
  if (bytes && fread(into, 1, bytes, file) != bytes) fail("the file of requests is cut");
}

static int64_t get_number(FILE *file) {
  int64_t number;
  get(file, &number, sizeof number);
  return number;
}

static char *get_text(FILE *file, int64_t *length) {
  *length = get_number(file);
  char *text = malloc(*length + 1);
  get(file, text, *length);
  text[*length] = 0;
  return text;
}

static void put(FILE *file, const void *from, size_t bytes) {
  if (bytes && fwrite(from, 1, bytes, file) != bytes) fail("cannot write answers");
}

static void put_number(FILE *file, int64_t number) { put(file, &number, sizeof number); }

static TF_Tensor *get_tensor(FILE *file) {
  TF_DataType type = get_number(file);
  int rank = get_number(file);
  int64_t dims[8], count = 1, length;
  if (rank > 8) fail("too many axes");
  for (int axis = 0; axis < rank; ++axis) count *= dims[axis] = get_number(file);
  size_t size = type == TF_STRING ? sizeof(TF_TString) : TF_DataTypeSize(type);
  TF_Tensor *tensor = TF_AllocateTensor(type, dims, rank, count * size);
  if (type != TF_STRING) {
    get(file, TF_TensorData(tensor), count * size);
    return tensor;
  }
  TF_TString *strings = TF_TensorData(tensor);
  for (int64_t place = 0; place < count; ++place) {
    char *text = get_text(file, &length);
    TF_TString_Init(&strings[place]);
    TF_TString_Copy(&strings[place], text, length);
    free(text);
  }
  return tensor;
}

static void put_tensor(FILE *file, TF_Tensor *tensor) {
  TF_DataType type = TF_TensorType(tensor);
  int rank = TF_NumDims(tensor);
  put_number(file, type);
  put_number(file, rank);
  for (int axis = 0; axis < rank; ++axis) put_number(file, TF_Dim(tensor, axis));
  if (type != TF_STRING) {
    put(file, TF_TensorData(tensor), TF_TensorByteSize(tensor));
    return;
  }
  TF_TString *strings = TF_TensorData(tensor);
  for (int64_t place = 0; place < TF_TensorElementCount(tensor); ++place) {
    put_number(file, TF_TString_GetSize(&strings[place]));
    put(file, TF_TString_GetDataPointer(&strings[place]), TF_TString_GetSize(&strings[place]));
  }
}

static TF_Output get_output(FILE *file, TF_Graph *graph) {
  int64_t length;
  char *name = get_text(file, &length);
  TF_Output output = {TF_GraphOperationByName(graph, name), get_number(file)};
  if (!output.oper) fail(name);
  free(name);
  return output;
}

static void answer(FILE *requests, FILE *answers, TF_Graph *graph, TF_Session *session, TF_Status *status) {
  TF_Output inputs[32], outputs[32];
  TF_Tensor *fed[32], *got[32];
  int num_inputs = get_number(requests);
  if (num_inputs > 32) fail("too many inputs");
  for (int i = 0; i < num_inputs; ++i) {
    inputs[i] = get_output(requests, graph);
    fed[i] = get_tensor(requests);
  }
  int num_outputs = get_number(requests);
  if (num_outputs > 32) fail("too many outputs");
  for (int i = 0; i < num_outputs; ++i) outputs[i] = get_output(requests, graph);
  TF_SessionRun(session, NULL, inputs, fed, num_inputs, outputs, got, num_outputs, NULL, 0, NULL, status);
  put_number(answers, TF_GetCode(status));
  if (TF_GetCode(status) == TF_OK) {
    for (int i = 0; i < num_outputs; ++i) {
      put_tensor(answers, got[i]);
      TF_DeleteTensor(got[i]);
    }
  } else {
    const char *message = TF_Message(status);
    put_number(answers, strlen(message));
    put(answers, message, strlen(message));
  }
  for (int i = 0; i < num_inputs; ++i) TF_DeleteTensor(fed[i]);
}

int main(int argc, char **argv) {
  if (argc != 4) fail("usage: client MODEL REQUESTS ANSWERS");
  FILE *requests = fopen(argv[2], "rb"), *answers = fopen(argv[3], "wb");
  if (!requests || !answers) fail("cannot open the files");
  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  const char *tags[] = {"serve"};
  TF_Session *session = TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, NULL, status);
  if (TF_GetCode(status) != TF_OK) fail(TF_Message(status));
  for (int64_t left = get_number(requests); left > 0; --left) answer(requests, answers, graph, session, status);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  fclose(requests);
  return fclose(answers);
}
