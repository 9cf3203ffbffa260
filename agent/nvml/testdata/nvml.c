// SPDX-License-Identifier: Apache-2.0

// A libnvidia-ml of two GPUs, built by TestLibrary against go-nvml's nvml.h: what the tests of the
// package do to a fake in Go, this has done to the real bindings. With OLD defined it is a library of
// before: it lacks what newer drivers added, as the linker sees it. (go-nvml's header wraps each handle in
// a struct; it is passed like the pointer in it.)

#include <stdio.h>
#include <string.h>
#include "nvml.h"

#define GPUS 2

struct nvmlDevice_st { unsigned int index; };
struct nvmlGpmSample_st { unsigned long long number; };
struct nvmlEventSet_st { int registered; };
struct nvmlGpuInstance_st { unsigned int id; };

static struct nvmlDevice_st devices[GPUS] = {{0}, {1}};

nvmlReturn_t nvmlInit_v2(void) { return NVML_SUCCESS; }
nvmlReturn_t nvmlShutdown(void) { return NVML_SUCCESS; }

static nvmlReturn_t text(char *into, unsigned int length, const char *from) {
    if (strlen(from) >= length) return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(into, from);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length) { return text(version, length, "580.95.05"); }
nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned int length) { return text(version, length, "13.580.95.05"); }
nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version) { *version = 13000; return NVML_SUCCESS; }

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count) { *count = GPUS; return NVML_SUCCESS; }

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device) {
    if (index >= GPUS) return NVML_ERROR_INVALID_ARGUMENT;
    device->handle = &devices[index];
    return NVML_SUCCESS;
}

// The second GPU is split in two; the handles of its parts have the indices 100 and 101.
nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length) {
    char name[64];
    snprintf(name, sizeof name, "%s-00000000-0000-4000-8000-%012u", device.handle->index < 100 ? "GPU" : "MIG", device.handle->index);
    return text(uuid, length, name);
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci) {
    memset(pci, 0, sizeof *pci);
    snprintf(pci->busId, sizeof pci->busId, "00000001:%02X:00.0", 0xA0 + device.handle->index);
    return NVML_SUCCESS;
}

// Each field is its number as a 32-bit answer; one that is odd is not supported.
nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values) {
    (void)device;
    for (int i = 0; i < count; i++) {
        values[i].nvmlReturn = values[i].fieldId % 2 || values[i].fieldId > 1000 ? NVML_ERROR_NOT_SUPPORTED : NVML_SUCCESS;
        values[i].valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
        values[i].value.uiVal = values[i].fieldId;
    }
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, nvmlTemperatureSensors_t sensor, unsigned int *celsius) {
    (void)device;
    *celsius = sensor == NVML_TEMPERATURE_GPU ? 41 : 0;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetSamples(nvmlDevice_t device, nvmlSamplingType_t type, unsigned long long since,
                                  nvmlValueType_t *kind, unsigned int *count, nvmlSample_t *samples) {
    if (type > NVML_MEMORY_CLK_SAMPLES) return NVML_ERROR_INVALID_ARGUMENT;
    if (device.handle->index == 1 || since >= 3000) return NVML_ERROR_NOT_FOUND;
    *kind = NVML_VALUE_TYPE_UNSIGNED_INT;
    if (samples && *count < 3) return NVML_ERROR_INSUFFICIENT_SIZE;
    *count = 3;
    for (unsigned int i = 0; samples && i < 3; i++) {
        samples[i].timeStamp = 1000 * (i + 1);
        samples[i].sampleValue.uiVal = 10 * (i + 1);
    }
    return NVML_SUCCESS;
}

#ifndef OLD
struct nvmlSystemEventSet_st { unsigned long long types; };
static struct nvmlSystemEventSet_st systemEvents;

nvmlReturn_t nvmlSystemEventSetCreate(nvmlSystemEventSetCreateRequest_t *request) {
    if (request->version != nvmlSystemEventSetCreateRequest_v1) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    request->set.handle = &systemEvents;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemRegisterEvents(nvmlSystemRegisterEventRequest_t *request) {
    if (request->version != nvmlSystemRegisterEventRequest_v1) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    request->set.handle->types = request->eventTypes;
    return NVML_SUCCESS;
}

// nvmlSystemEventSetWait tells once that a GPU, at 0001:a0:00.0, is unbound, and bound again.
nvmlReturn_t nvmlSystemEventSetWait(nvmlSystemEventSetWaitRequest_t *request) {
    if (request->version != nvmlSystemEventSetWaitRequest_v1) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (request->set.handle->types == 0 || request->dataSize < 2) return NVML_ERROR_TIMEOUT;
    request->set.handle->types = 0;
    request->data[0].eventType = nvmlSystemEventTypeGpuDriverUnbind;
    request->data[1].eventType = nvmlSystemEventTypeGpuDriverBind;
    request->data[0].gpuId = request->data[1].gpuId = 1 << 16 | 0xa0 << 8;
    request->numEvent = 2;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemEventSetFree(nvmlSystemEventSetFreeRequest_t *request) { (void)request; return NVML_SUCCESS; }
#endif

nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *set) {
    static struct nvmlEventSet_st only;
    only.registered = 0;
    set->handle = &only;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set) { (void)set; return NVML_SUCCESS; }

nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long *types) {
    (void)device;
    *types = nvmlEventTypeXidCriticalError;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long types, nvmlEventSet_t set) {
    if (types != nvmlEventTypeXidCriticalError) return NVML_ERROR_INVALID_ARGUMENT;
    set.handle->registered += 1 + (int)device.handle->index;
    return NVML_SUCCESS;
}

// The first wait brings an XID of the second GPU, if both were registered.
nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data, unsigned int timeout) {
    (void)timeout;
    if (set.handle->registered != 3) return NVML_ERROR_TIMEOUT;
    set.handle->registered = 4;
    data->device.handle = &devices[1];
    data->eventType = nvmlEventTypeXidCriticalError;
    data->eventData = 79;
    data->gpuInstanceId = data->computeInstanceId = 0xFFFFFFFF;
    return NVML_SUCCESS;
}

#ifdef OLD
// The first version of the call knows nothing of instances: its struct is shorter.
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_v1_t *infos) {
    (void)device;
    unsigned int room = *count;
    *count = 3;
    if (room < 3) return NVML_ERROR_INSUFFICIENT_SIZE;
    for (unsigned int i = 0; i < 3; i++) infos[i] = (nvmlProcessInfo_v1_t){.pid = 4700 + i, .usedGpuMemory = (1 + i) << 20};
    return NVML_SUCCESS;
}
#endif

#ifndef OLD
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_t *infos) {
    unsigned int room = *count;
    *count = 3;
    if (room < 3) return NVML_ERROR_INSUFFICIENT_SIZE;
    for (unsigned int i = 0; i < 3; i++) {
        infos[i] = (nvmlProcessInfo_t){.pid = 4700 + i, .usedGpuMemory = (1 + i) << 20, .gpuInstanceId = 0xFFFFFFFF, .computeInstanceId = 0xFFFFFFFF};
        if (device.handle->index == 1) infos[i].gpuInstanceId = 7 + i % 2, infos[i].computeInstanceId = 0;
    }
    infos[2].usedGpuMemory = NVML_VALUE_NOT_AVAILABLE;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_t *infos) {
    (void)device, (void)infos;
    *count = 0;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *current, unsigned int *pending) {
    *current = *pending = device.handle->index == 1 ? NVML_DEVICE_MIG_ENABLE : NVML_DEVICE_MIG_DISABLE;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned int *count) {
    (void)device;
    *count = 7;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned int index, nvmlDevice_t *part) {
    static struct nvmlDevice_st parts[2] = {{100}, {101}};
    (void)device;
    if (index != 0 && index != 3) return NVML_ERROR_NOT_FOUND;
    part->handle = &parts[index / 3];
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t device, unsigned int *id) {
    *id = device.handle->index - 100 + 7;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t device, unsigned int *id) {
    (void)device;
    *id = 0;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceById(nvmlDevice_t device, unsigned int id, nvmlGpuInstance_t *instance) {
    static struct nvmlGpuInstance_st only;
    (void)device;
    if (id == 8) return NVML_ERROR_NO_PERMISSION;
    only.id = id;
    instance->handle = &only;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpuInstanceGetInfo(nvmlGpuInstance_t instance, nvmlGpuInstanceInfo_t *info) {
    memset(info, 0, sizeof *info);
    info->id = instance.handle->id;
    info->profileId = 19;
    info->placement = (nvmlGpuInstancePlacement_t){.start = 4, .size = 1};
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t *temperature) {
    (void)device;
    if (temperature->version != nvmlTemperature_v1) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    temperature->temperature = 42;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuFabricInfoV(nvmlDevice_t device, nvmlGpuFabricInfoV_t *info) {
    (void)device;
    if (info->version != nvmlGpuFabricInfo_v2) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    nvmlGpuFabricInfo_v2_t *v2 = (nvmlGpuFabricInfo_v2_t *)info;
    v2->state = NVML_GPU_FABRIC_STATE_COMPLETED;
    v2->status = NVML_SUCCESS;
    v2->cliqueId = 7;
    v2->healthMask = 0x1F;
    memset(v2->clusterUuid, 0xAB, sizeof v2->clusterUuid);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpmQueryDeviceSupport(nvmlDevice_t device, nvmlGpmSupport_t *support) {
    support->isSupportedDevice = device.handle->index == 0;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpmSampleAlloc(nvmlGpmSample_t *sample) {
    static struct nvmlGpmSample_st pool[64];
    static unsigned int used;
    sample->handle = &pool[__atomic_fetch_add(&used, 1, __ATOMIC_SEQ_CST) % 64];
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpmSampleFree(nvmlGpmSample_t sample) { (void)sample; return NVML_SUCCESS; }

nvmlReturn_t nvmlGpmSampleGet(nvmlDevice_t device, nvmlGpmSample_t sample) {
    static unsigned long long taken;
    (void)device;
    sample.handle->number = __atomic_add_fetch(&taken, 1, __ATOMIC_SEQ_CST);
    return NVML_SUCCESS;
}

// Each metric is how many samples lie between the two that are compared.
nvmlReturn_t nvmlGpmMetricsGet(nvmlGpmMetricsGet_t *request) {
    if (request->version != NVML_GPM_METRICS_GET_VERSION) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    for (unsigned int i = 0; i < request->numMetrics; i++) {
        request->metrics[i].nvmlReturn = request->metrics[i].metricId < NVML_GPM_METRIC_MAX ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
        request->metrics[i].value = (double)(request->sample2.handle->number - request->sample1.handle->number);
    }
    return NVML_SUCCESS;
}
#endif
